/** What the forward pass needs to know of a checkpoint's `config.json`. */
import { CheckpointError } from "../../errors.ts";

/** Sizes and constants of a Qwen2 or Llama model. */
export interface ModelConfig {
  readonly modelType: "qwen2" | "llama";
  readonly architecture: string;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly contextLength: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
  readonly tiedHead: boolean;
  readonly qkvBias: boolean;
  readonly eosTokenIds: readonly number[];
}

const architectures = { qwen2: "Qwen2ForCausalLM", llama: "LlamaForCausalLM" } as const;

/** Reads the parsed `config.json` and, for more end tokens, `generation_config.json`. */
export function parseModelConfig(
  config: Record<string, unknown>,
  generation: Record<string, unknown> = {},
): ModelConfig {
  const modelType = config.model_type;
  if (modelType !== "qwen2" && modelType !== "llama") {
    throw new CheckpointError(
      `The embedded server runs model_type "qwen2" and "llama"; config.json says ${
        JSON.stringify(modelType)
      }. Use a real SGLang server for other models`,
    );
  }
  refuseUnsupported(config);
  const hiddenSize = count(config, "hidden_size");
  const heads = count(config, "num_attention_heads");
  return {
    modelType,
    architecture: architectures[modelType],
    vocabSize: count(config, "vocab_size"),
    hiddenSize,
    intermediateSize: count(config, "intermediate_size"),
    layers: count(config, "num_hidden_layers"),
    heads,
    kvHeads: count(config, "num_key_value_heads", heads),
    headDim: count(config, "head_dim", hiddenSize / heads),
    contextLength: count(config, "max_position_embeddings", 2048),
    ropeTheta: ropeTheta(config),
    rmsNormEps: number(config, "rms_norm_eps", 1e-6),
    tiedHead: config.tie_word_embeddings === true,
    qkvBias: modelType === "qwen2" || config.attention_bias === true,
    eosTokenIds: [
      ...new Set([...idList(config.eos_token_id), ...idList(generation.eos_token_id)]),
    ],
  };
}

/** Names and shapes of all weights of a model, as in a Hugging Face checkpoint. */
export function weightShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, headDim, vocabSize } = config;
  const query = config.heads * headDim;
  const keyValue = config.kvHeads * headDim;
  const shapes = new Map<string, readonly number[]>();
  shapes.set("model.embed_tokens.weight", [vocabSize, hiddenSize]);
  for (let layer = 0; layer < config.layers; layer++) {
    const prefix = `model.layers.${layer}.`;
    for (const [part, rows] of [["q", query], ["k", keyValue], ["v", keyValue]] as const) {
      shapes.set(`${prefix}self_attn.${part}_proj.weight`, [rows, hiddenSize]);
      if (config.qkvBias) shapes.set(`${prefix}self_attn.${part}_proj.bias`, [rows]);
    }
    shapes.set(`${prefix}self_attn.o_proj.weight`, [hiddenSize, query]);
    shapes.set(`${prefix}mlp.gate_proj.weight`, [intermediateSize, hiddenSize]);
    shapes.set(`${prefix}mlp.up_proj.weight`, [intermediateSize, hiddenSize]);
    shapes.set(`${prefix}mlp.down_proj.weight`, [hiddenSize, intermediateSize]);
    shapes.set(`${prefix}input_layernorm.weight`, [hiddenSize]);
    shapes.set(`${prefix}post_attention_layernorm.weight`, [hiddenSize]);
  }
  shapes.set("model.norm.weight", [hiddenSize]);
  if (!config.tiedHead) shapes.set("lm_head.weight", [vocabSize, hiddenSize]);
  return shapes;
}

function refuseUnsupported(config: Record<string, unknown>): void {
  const problem = config.hidden_act !== undefined && config.hidden_act !== "silu"
    ? `hidden_act ${JSON.stringify(config.hidden_act)} (only "silu")`
    : config.use_sliding_window === true
    ? "use_sliding_window"
    : config.quantization_config != null
    ? "quantization_config"
    : config.mlp_bias === true
    ? "mlp_bias"
    : config.model_type === "llama" && config.attention_bias === true
    // Llama's attention_bias also gives o_proj a bias, which no common checkpoint uses.
    ? "attention_bias"
    : ropeScaling(config);
  if (problem === undefined) return;
  throw new CheckpointError(
    `The embedded server cannot run this checkpoint: config.json sets ${problem}. ` +
      "Use a real SGLang server for it",
  );
}

function ropeScaling(config: Record<string, unknown>): string | undefined {
  for (const key of ["rope_scaling", "rope_parameters"]) {
    const rope = config[key];
    if (typeof rope !== "object" || rope === null) continue;
    const fields = rope as Record<string, unknown>;
    const type = fields.rope_type ?? fields.type ?? "default";
    if (type !== "default") return `${key}.rope_type ${JSON.stringify(type)}`;
  }
  return undefined;
}

function ropeTheta(config: Record<string, unknown>): number {
  const rope = config.rope_parameters;
  if (typeof rope === "object" && rope !== null && "rope_theta" in rope) {
    return number(rope as Record<string, unknown>, "rope_theta", 10000);
  }
  return number(config, "rope_theta", 10000);
}

function number(config: Record<string, unknown>, key: string, fallback: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new CheckpointError(
    `config.json: ${key} must be a number, but is ${JSON.stringify(value)}`,
  );
}

function count(config: Record<string, unknown>, key: string, fallback?: number): number {
  const value = config[key] ?? fallback;
  if (typeof value === "number" && Number.isInteger(value) && value > 0) return value;
  throw new CheckpointError(
    `config.json: ${key} must be a positive integer, but is ${JSON.stringify(value)}`,
  );
}

function idList(value: unknown): number[] {
  const list = Array.isArray(value) ? value : [value];
  return list.filter((id): id is number => typeof id === "number");
}
