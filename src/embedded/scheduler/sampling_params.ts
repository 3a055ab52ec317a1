/**
 * Sampling parameters as the wire has them, checked with the real server's ranges and words.
 * Source: SGLang `srt/sampling/sampling_params.py`, 0.5.16 and 0.5.23.
 */
import { isRecord } from "../../internal/json.ts";
import { ApiError, formError, internalError, valueError } from "../http/api_error.ts";

/** Checked parameters of one request. */
export interface Sampling {
  readonly maxNewTokens: number;
  readonly minNewTokens: number;
  readonly temperature: number;
  readonly topP: number;
  /** `Infinity` keeps all. */
  readonly topK: number;
  readonly minP: number;
  readonly frequencyPenalty: number;
  readonly presencePenalty: number;
  readonly repetitionPenalty: number;
  readonly stop: readonly string[];
  readonly stopTokenIds: ReadonlySet<number>;
  readonly stopRegex: readonly RegExp[];
  readonly ignoreEos: boolean;
  readonly skipSpecialTokens: boolean;
  readonly noStopTrim: boolean;
  readonly n: number;
  readonly logitBias: ReadonlyMap<number, number>;
  readonly seed: number | null;
  readonly streamInterval: number;
}

const knownKeys = [
  "max_new_tokens",
  "stop",
  "stop_token_ids",
  "stop_regex",
  "temperature",
  "top_p",
  "top_k",
  "min_p",
  "frequency_penalty",
  "presence_penalty",
  "repetition_penalty",
  "min_new_tokens",
  "n",
  "json_schema",
  "regex",
  "ebnf",
  "structural_tag",
  "ignore_eos",
  "skip_special_tokens",
  "spaces_between_special_tokens",
  "no_stop_trim",
  "stream_interval",
  "logit_bias",
  "sampling_seed",
  "custom_params",
];
const newestKeys = [...knownKeys, "beam_width", "watermark", "choice"];
const grammars = ["json_schema", "regex", "ebnf", "structural_tag"];

/** Temperatures below this are greedy. */
const greedyBelow = 1e-6;

/** Checks one `sampling_params` object; throws the real server's answer where it is wrong. */
export function parseSampling(
  raw: Record<string, unknown>,
  options: { vocabSize: number; strict: boolean },
): Sampling {
  refuseUnknown(raw, options.strict);
  const fields = new Fields(raw, options.strict);
  const temperature = fields.number("temperature", 1);
  const topK = fields.integer("top_k", -1);
  const minNewTokens = fields.integer("min_new_tokens", 0);
  const maxNewTokens = raw.max_new_tokens === null
    ? Infinity
    : fields.integer("max_new_tokens", 128);
  const sampling: Sampling = {
    maxNewTokens,
    minNewTokens,
    temperature,
    topP: fields.number("top_p", 1),
    topK: topK === -1 ? Infinity : topK,
    minP: fields.number("min_p", 0),
    frequencyPenalty: fields.number("frequency_penalty", 0),
    presencePenalty: fields.number("presence_penalty", 0),
    repetitionPenalty: fields.number("repetition_penalty", 1),
    stop: fields.strings("stop"),
    stopTokenIds: new Set(fields.integers("stop_token_ids")),
    stopRegex: fields.strings("stop_regex").map(toRegExp),
    ignoreEos: fields.boolean("ignore_eos", false),
    skipSpecialTokens: fields.boolean("skip_special_tokens", true),
    noStopTrim: fields.boolean("no_stop_trim", false),
    n: fields.integer("n", 1),
    logitBias: logitBias(raw.logit_bias, options.vocabSize),
    seed: raw.sampling_seed == null ? null : fields.integer("sampling_seed", 0),
    streamInterval: fields.integer("stream_interval", 1),
  };
  checkRanges(sampling);
  if (grammars.some((key) => raw[key] != null)) {
    throw valueError(
      "Grammar-based generation (json_schema, regex, ebnf, structural_tag) is not supported when " +
        "the server is launched with --grammar-backend none",
    );
  }
  return temperature < greedyBelow ? { ...sampling, temperature: 1, topK: 1 } : sampling;
}

function refuseUnknown(raw: Record<string, unknown>, strict: boolean): void {
  const known = strict ? newestKeys : knownKeys;
  const unknown = Object.keys(raw).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  if (!strict) throw internalError();
  const expected = known.map((key) => `\`${key}\``).join(", ");
  throw new ApiError(400, { error: `unknown field \`${unknown}\`, expected one of ${expected}` });
}

function checkRanges(s: Sampling): void {
  const rules: [boolean, string][] = [
    [
      Number.isFinite(s.temperature) && s.temperature >= 0,
      `temperature must be a non-negative finite number, got ${s.temperature}.`,
    ],
    [s.topP > 0 && s.topP <= 1, `top_p must be in (0, 1], got ${s.topP}.`],
    [s.minP >= 0 && s.minP <= 1, `min_p must be in [0, 1], got ${s.minP}.`],
    [s.topK >= 1, `top_k must be -1 (disable) or at least 1, got ${s.topK}.`],
    [
      Math.abs(s.frequencyPenalty) <= 2,
      `frequency_penalty must be in [-2, 2], got ${s.frequencyPenalty}.`,
    ],
    [
      Math.abs(s.presencePenalty) <= 2,
      `presence_penalty must be in [-2, 2], got ${s.presencePenalty}.`,
    ],
    [
      s.repetitionPenalty > 0 && s.repetitionPenalty <= 2,
      `repetition_penalty must be in (0, 2] (1.0 = no penalty), got ${s.repetitionPenalty}.`,
    ],
    [
      s.minNewTokens >= 0,
      `min_new_tokens must be in [0, max_new_tokens], got ${s.minNewTokens}.`,
    ],
    [s.maxNewTokens >= 0, `max_new_tokens must be at least 0, got ${s.maxNewTokens}.`],
    [
      s.minNewTokens <= s.maxNewTokens,
      `min_new_tokens must be in [0, max_new_tokens(${s.maxNewTokens})], got ${s.minNewTokens}.`,
    ],
    [s.n >= 1, "n must be positive"],
    [s.streamInterval >= 1, `stream_interval must be at least 1, got ${s.streamInterval}.`],
  ];
  const broken = rules.find(([holds]) => !holds);
  if (broken !== undefined) throw valueError(broken[1]);
}

function logitBias(raw: unknown, vocabSize: number): Map<number, number> {
  const biases = new Map<number, number>();
  if (raw == null) return biases;
  if (typeof raw !== "object") throw internalError();
  for (const [key, value] of Object.entries(raw)) {
    const id = Number(key);
    if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
      throw valueError(`logit_bias must has keys in [0, ${vocabSize - 1}], got ${key}.`);
    }
    if (typeof value !== "number") throw internalError();
    biases.set(id, value);
  }
  return biases;
}

function toRegExp(source: string): RegExp {
  try {
    return new RegExp(source, "u");
  } catch {
    throw valueError(`stop_regex ${JSON.stringify(source)} is not a regular expression`);
  }
}

/** Typed reading of a raw object: a wrong type is a 500 up to 0.5.20 and a 400 from 0.5.22 on. */
class Fields {
  readonly #raw: Record<string, unknown>;
  readonly #strict: boolean;

  constructor(raw: Record<string, unknown>, strict: boolean) {
    this.#raw = raw;
    this.#strict = strict;
  }

  number(key: string, fallback: number): number {
    const value = this.#raw[key] ?? fallback;
    if (typeof value === "number") return value;
    throw this.#wrong(value, "f64");
  }

  integer(key: string, fallback: number): number {
    const value = this.#raw[key] ?? fallback;
    if (typeof value === "number" && Number.isInteger(value)) return value;
    throw this.#wrong(value, "i64");
  }

  boolean(key: string, fallback: boolean): boolean {
    const value = this.#raw[key] ?? fallback;
    if (typeof value === "boolean") return value;
    throw this.#wrong(value, "a boolean");
  }

  strings(key: string): string[] {
    const value = this.#raw[key] ?? [];
    if (typeof value === "string") return [value];
    if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value;
    throw this.#wrong(value, "a string or a list of strings");
  }

  integers(key: string): number[] {
    const value = this.#raw[key] ?? [];
    if (Array.isArray(value) && value.every((item) => Number.isInteger(item))) return value;
    throw this.#wrong(value, "a list of i64");
  }

  #wrong(value: unknown, expected: string): ApiError {
    if (!this.#strict) return internalError();
    const kind = typeof value === "number" ? "floating point" : typeof value;
    const shown = typeof value === "string" ? JSON.stringify(value) : `\`${value}\``;
    return new ApiError(400, { error: `invalid type: ${kind} ${shown}, expected ${expected}` });
  }
}

/** The object or the list of objects of `sampling_params`, one for each prompt. */
export function samplingObjects(raw: unknown, prompts: number): Record<string, unknown>[] {
  const given = raw ?? {};
  if (Array.isArray(given)) {
    if (given.length !== prompts || !given.every(isRecord)) throw internalError();
    return given;
  }
  if (!isRecord(given)) {
    throw formError(
      `{'type': 'value_error', 'loc': ('body', 'sampling_params'), 'msg': 'Value error, must be ` +
        `dict or list or null; got ${typeof given}'}`,
    );
  }
  return Array.from({ length: prompts }, () => given);
}
