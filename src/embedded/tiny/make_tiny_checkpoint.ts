import { join } from "node:path";
import { float32ToBFloat16, type TensorToWrite, writeSafetensors } from "../../checkpoint/mod.ts";
import { ValidationError } from "../../errors.ts";
import { pathOf } from "../../internal/path_of.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { parseModelConfig, weightShapes } from "../model/config.ts";
import { SeedStream } from "../scheduler/random.ts";
import { specialIds, tokenizerFiles, vocabSize } from "./tokenizer_files.ts";
import { runtime } from "../../runtime/mod.ts";
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";

/** Element types of a tiny checkpoint. */
export type TinyDType = "float32" | "bfloat16";

/** Options of {@linkcode makeTinyCheckpoint}. */
export interface TinyCheckpointOptions {
  /** The same seed gives the same bytes. Default 0. */
  readonly seed?: number | undefined;
  /** Kind of model. Default `qwen2`. */
  readonly arch?: "qwen2" | "llama" | undefined;
  /** Element type of the file. Default `bfloat16`. */
  readonly dtype?: TinyDType | undefined;
  /** Whether the output head is the embedding. Default `false`. */
  readonly tied?: boolean | undefined;
}

const OPTION_NAMES = {
  seed: true,
  arch: true,
  dtype: true,
  tied: true,
} as const satisfies OptionNames<TinyCheckpointOptions>;

/** Spread of the random weights: wide enough for sharp, varied predictions. */
const spread = 0.2;

/**
 * Writes a tiny random checkpoint: 64 wide, 2 layers, 4 heads (2 for keys and values), 1024
 * tokens, with tokenizer and ChatML template, about 0.5 MB. It needs nothing but this function, and
 * loads in the embedded server, in the real SGLang and in transformers alike. What it writes is
 * nonsense, but always the same nonsense.
 *
 * Permissions: `--allow-read` and `--allow-write` of the folder.
 *
 * @example
 * ```ts
 * import { makeTinyCheckpoint } from "@sglang-rl/sglang-rl/testing";
 *
 * await makeTinyCheckpoint("/tmp/step-0", { seed: 0 });
 * await makeTinyCheckpoint("/tmp/step-1", { seed: 1 }); // the same names and shapes, new weights
 * ```
 */
export async function makeTinyCheckpoint(
  place: string,
  options: TinyCheckpointOptions = {},
): Promise<void> {
  checkOptionNames(options, OPTION_NAMES, "makeTinyCheckpoint()");
  const folder = pathOf(place, "a checkpoint");
  const { seed = 0, arch = "qwen2", dtype = "bfloat16", tied = false } = options;
  if (!Number.isSafeInteger(seed)) {
    throw new ValidationError(`seed must be an integer, but is ${seed}`);
  }
  const config = configOf({ arch, dtype, tied });
  const { tokenizer, config: tokenizerConfig } = tokenizerFiles();
  const files = {
    "config.json": config,
    "generation_config.json": generationConfig,
    "tokenizer.json": tokenizer,
    "tokenizer_config.json": tokenizerConfig,
  };
  try {
    await runtime().mkdir(folder, { recursive: true });
    for (const [name, content] of Object.entries(files)) {
      await runtime().writeTextFile(join(folder, name), `${JSON.stringify(content, null, 1)}\n`);
    }
  } catch (error) {
    throw asPermissionError(error, `--allow-write=${folder}`, `write a checkpoint to ${folder}`);
  }
  await writeSafetensors(
    join(folder, "model.safetensors"),
    randomTensors(config, { seed, dtype }),
  );
}

const generationConfig = {
  eos_token_id: [specialIds.imEnd, specialIds.endOfText],
  pad_token_id: specialIds.endOfText,
};

function configOf(
  options: { arch: "qwen2" | "llama"; dtype: TinyDType; tied: boolean },
): Record<string, unknown> {
  const architecture = options.arch === "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM";
  return {
    architectures: [architecture],
    attention_dropout: 0,
    bos_token_id: null,
    dtype: options.dtype,
    eos_token_id: specialIds.imEnd,
    hidden_act: "silu",
    hidden_size: 64,
    initializer_range: spread,
    intermediate_size: 128,
    max_position_embeddings: 2048,
    model_type: options.arch,
    num_attention_heads: 4,
    num_hidden_layers: 2,
    num_key_value_heads: 2,
    pad_token_id: specialIds.endOfText,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    tie_word_embeddings: options.tied,
    torch_dtype: options.dtype,
    use_cache: true,
    vocab_size: vocabSize,
  };
}

function randomTensors(
  config: Record<string, unknown>,
  { seed, dtype }: { seed: number; dtype: TinyDType },
): TensorToWrite[] {
  const random = new SeedStream(seed * 7919 + 1);
  return [...weightShapes(parseModelConfig(config))].map(([name, shape]) => {
    const length = shape.reduce((total, n) => total * n, 1);
    const center = name.includes("norm") ? 1 : 0;
    const values = Float32Array.from({ length }, () => center + spread * random.normal());
    const data = dtype === "float32" ? values : float32ToBFloat16(values);
    return { name, dtype, shape, data };
  });
}
