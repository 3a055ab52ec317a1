import { UnsupportedError, ValidationError } from "../errors.ts";

/** What is read of PEFT's `adapter_config.json`. */
export interface PeftConfig {
  /** Must be `"LORA"`. */
  readonly peft_type?: string | null | undefined;
  /** Rank of every matrix. */
  readonly r: number;
  /** The product of the matrices counts `lora_alpha / r` times. */
  readonly lora_alpha: number;
  /** Further fields; those that change what is computed are refused by name. */
  readonly [field: string]: unknown;
}

/** What an adapter computes beside its matrices. */
export interface AdapterSettings {
  /** Rank of every matrix. */
  readonly rank: number;
  /** What `lora_alpha` is for a server, which always divides it by the rank. */
  readonly alpha: number;
  /** Whether a server that reads PEFT's own file computes the same. */
  readonly isPlain: boolean;
}

/**
 * Fields that change what an adapter computes and that SGLang leaves out without a word (or fails on):
 * each with the values that mean nothing.
 */
const WITHOUT_EFFECT: Readonly<Record<string, (value: unknown) => boolean>> = {
  use_dora: isOff,
  use_qalora: isOff,
  lora_bias: isOff,
  fan_in_fan_out: isOff,
  modules_to_save: isEmpty,
  rank_pattern: isEmpty,
  alpha_pattern: isEmpty,
  layer_replication: isEmpty,
  target_parameters: isEmpty,
  trainable_token_indices: isEmpty,
  megatron_config: isEmpty,
  alora_invocation_tokens: isEmpty,
  arrow_config: isEmpty,
  bias: (value) => isOff(value) || value === "none",
};

/** Ways to begin that change the base model's own weights, which a server does not have so. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq)/i;

/**
 * Reads a PEFT configuration.
 *
 * @throws {ValidationError} Rank or alpha is none.
 * @throws {UnsupportedError} It sets something that SGLang does not compute.
 */
export function readPeftConfig(config: PeftConfig): AdapterSettings {
  if (typeof config !== "object" || config === null) {
    throw new ValidationError(
      "An adapter needs its PEFT configuration, an object with r and lora_alpha",
    );
  }
  const { r, lora_alpha: alpha, peft_type: type = "LORA" } = config;
  if (typeof type !== "string" || type.toUpperCase() !== "LORA") {
    throw new UnsupportedError(`SGLang serves adapters of peft_type "LORA", not ${shown(type)}`);
  }
  if (!Number.isSafeInteger(r) || r < 1) {
    throw new ValidationError(`The adapter's r must be a whole number from 1 on, got ${shown(r)}`);
  }
  if (typeof alpha !== "number" || !Number.isFinite(alpha)) {
    throw new ValidationError(`The adapter's lora_alpha must be a number, got ${shown(alpha)}`);
  }
  for (const [name, isHarmless] of Object.entries(WITHOUT_EFFECT)) {
    const value = config[name];
    if (value === undefined || isHarmless(value)) continue;
    throw new UnsupportedError(
      `The adapter's configuration sets ${name} to ${
        shown(value)
      }, which SGLang does not compute. ` +
        "Train without it, or merge the adapter and send full weights",
    );
  }
  const { init_lora_weights: begun } = config;
  if (typeof begun === "string" && CHANGES_BASE.test(begun)) {
    throw new UnsupportedError(
      `The adapter began with init_lora_weights "${begun}", which changes the base model too; the ` +
        "servers have the plain one. Convert it (PEFT: path_initial_model_for_weight_conversion), " +
        "and give its configuration without that field",
    );
  }
  const isStabilized = !isOff(config.use_rslora);
  return {
    rank: r,
    // rsLoRA divides by the root of the rank; the server divides by the rank.
    alpha: isStabilized ? alpha * Math.sqrt(r) : alpha,
    isPlain: !isStabilized && Array.isArray(config.target_modules),
  };
}

function isOff(value: unknown): boolean {
  return value === undefined || value === null || value === false;
}

function isEmpty(value: unknown): boolean {
  if (isOff(value)) return true;
  return typeof value === "object" && Object.keys(value as object).length === 0;
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
