/** A tiny random checkpoint on the tokenizer of a real model. */
import { join } from "node:path";
import { type TensorToWrite, writeSafetensors } from "../../src/checkpoint/mod.ts";
import { parseModelConfig, weightShapes } from "../../src/embedded/model/config.ts";
import { SeedStream } from "../../src/embedded/scheduler/random.ts";

/** Wide enough for varied predictions from 150,000 tokens, small enough to read in a moment. */
const hidden = 32;
const spread = 0.3;

/**
 * Writes random weights and a config beside the tokenizer files that `folder` holds: 32 wide, 2
 * layers, tied head, float32, 16 to 20 MB. It loads in the embedded and in the real SGLang.
 */
export async function writeRandomWeights(
  folder: string,
  { arch, seed = 0 }: { arch: "qwen2" | "llama"; seed?: number },
): Promise<void> {
  const config = await configFor(folder, arch);
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config, null, 1));
  await Deno.writeTextFile(
    join(folder, "generation_config.json"),
    JSON.stringify({ eos_token_id: [config.eos_token_id], pad_token_id: config.pad_token_id }),
  );
  const random = new SeedStream(seed * 7919 + 1);
  const tensors = [...weightShapes(parseModelConfig(config))].map(([name, shape]) => {
    const length = shape.reduce((total, n) => total * n, 1);
    const center = name.includes("norm") ? 1 : 0;
    const data = Float32Array.from({ length }, () => center + spread * random.normal());
    return { name, dtype: "float32", shape, data } satisfies TensorToWrite;
  });
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
}

interface TokenizerJson {
  readonly added_tokens: readonly { readonly id: number; readonly content: string }[];
  readonly model: { readonly vocab: Readonly<Record<string, number>> };
}

async function configFor(folder: string, arch: "qwen2" | "llama") {
  const tokenizer: TokenizerJson = JSON.parse(
    await Deno.readTextFile(join(folder, "tokenizer.json")),
  );
  const settings = JSON.parse(await Deno.readTextFile(join(folder, "tokenizer_config.json")));
  const idOf = (token: unknown): number | null => {
    const text = typeof token === "string" ? token : (token as { content?: string })?.content;
    return tokenizer.added_tokens.find(({ content }) => content === text)?.id ?? null;
  };
  let top = 0;
  for (const id of Object.values(tokenizer.model.vocab)) top = Math.max(top, id);
  for (const { id } of tokenizer.added_tokens) top = Math.max(top, id);
  return {
    architectures: [arch === "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM"],
    attention_dropout: 0,
    bos_token_id: idOf(settings.bos_token),
    dtype: "float32",
    eos_token_id: idOf(settings.eos_token),
    hidden_act: "silu",
    hidden_size: hidden,
    initializer_range: spread,
    intermediate_size: 2 * hidden,
    max_position_embeddings: 8192,
    model_type: arch,
    num_attention_heads: 2,
    num_hidden_layers: 2,
    num_key_value_heads: 2,
    pad_token_id: idOf(settings.pad_token) ?? idOf(settings.eos_token),
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: true,
    torch_dtype: "float32",
    use_cache: true,
    vocab_size: Math.ceil((top + 1) / 64) * 64,
  };
}
