import { ValidationError } from "../errors.ts";
import { HEAD_LIMITS, type HeadLimits } from "../http/mod.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { samplingIn } from "./request.ts";

const MiB = 2 ** 20;
/** The longest text that the engine of JavaScript can hold. */
const LONGEST_TEXT = 512 * MiB - 1024;

/** How much is read of what a server sends. */
export interface ClientLimits {
  /** Longest answer that is no generation, in bytes. Default 8 MiB. */
  readonly answerBytes?: number | undefined;
  /**
   * Longest answer of a generation, longest event of a stream, in bytes. Default 2 MiB and what
   * prompt, `n`, `maxNewTokens` and the log-probabilities that were asked for can need; 512 MiB
   * where hidden states or `extra` fields were asked for.
   */
  readonly generateBytes?: number | undefined;
  /** How much is read of the text of an error, in bytes; the rest is left out. Default 64 KiB. */
  readonly errorBytes?: number | undefined;
  /** Longest head of an answer, its headers together, in bytes. Default 64 KiB. */
  readonly headBytes?: number | undefined;
  /** Most headers of an answer. Default 256. */
  readonly headLines?: number | undefined;
}

const NAMES = {
  answerBytes: true,
  generateBytes: true,
  errorBytes: true,
  headBytes: true,
  headLines: true,
} as const satisfies OptionNames<ClientLimits>;

/** Limits with their defaults. */
export interface ClientLimitSettings extends HeadLimits {
  readonly answerBytes: number;
  readonly generateBytes: number | undefined;
  readonly errorBytes: number;
}

/** Checks the limits and fills in the defaults. */
export function clientLimits(limits: ClientLimits = {}): ClientLimitSettings {
  checkOptionNames(limits, NAMES, "the limits of a client");
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined || (Number.isSafeInteger(value) && value >= 1)) continue;
    const unit = name === "headLines" ? "" : " of bytes";
    throw new ValidationError(`limits.${name} must be a number${unit}, at least 1, got ${value}`);
  }
  return {
    answerBytes: limits.answerBytes ?? 8 * MiB,
    generateBytes: limits.generateBytes,
    errorBytes: limits.errorBytes ?? 64 * 1024,
    headBytes: limits.headBytes ?? HEAD_LIMITS.headBytes,
    headLines: limits.headLines ?? HEAD_LIMITS.headLines,
  };
}

/** What an answer may have beside its tokens. */
const BESIDE_BYTES = 2 * MiB;
/** Generous for every token: id, text, log-probability, in JSON. */
const TOKEN_BYTES = 512;
/** The same for one token among the likeliest. */
const TOP_TOKEN_BYTES = 128;
/** What every event of a stream repeats, mostly one token an event. */
const EVENT_BYTES = 4096;

/** What the answer to one body of `/generate` may need. */
export interface GenerateBytes {
  /** For the whole answer, or one event of a stream. */
  readonly answer: number;
  /** For all events of a stream that tells only what is new. */
  readonly stream: number;
}

/** Reads from a request how long its answer may become. */
export function generateBytes(
  body: Readonly<Record<string, unknown>>,
  given?: number,
): GenerateBytes {
  const sampling = samplingIn(body);
  const newTokens = sampling.max_new_tokens === undefined ? 128 : sampling.max_new_tokens;
  const n = typeof sampling.n === "number" ? sampling.n : 1;
  const known = new Set<string>(KNOWN_FIELDS);
  const isOpen = typeof newTokens !== "number" || body.return_hidden_states === true ||
    body.return_routed_experts === true ||
    Object.keys(body).some((name) => !known.has(name));
  if (isOpen) return { answer: given ?? LONGEST_TEXT, stream: Infinity };
  const { text, input_ids: ids, top_logprobs_num: top, token_ids_logprob: chosen } = body;
  // A character has at most four bytes, and a token at least one.
  const promptTokens = typeof text === "string" ? 4 * text.length : lengthOf(ids);
  const perToken = TOKEN_BYTES +
    TOP_TOKEN_BYTES * ((typeof top === "number" ? top : 0) + lengthOf(chosen));
  const needed = BESIDE_BYTES + n * (promptTokens + newTokens) * perToken;
  const answer = given ?? Math.min(needed, LONGEST_TEXT);
  return { answer, stream: answer + newTokens * EVENT_BYTES };
}

/** Fields of a body whose effect on the answer's length is known. */
const KNOWN_FIELDS = [
  "text",
  "input_ids",
  "sampling_params",
  "rid",
  "stream",
  "return_logprob",
  "logprob_start_len",
  "top_logprobs_num",
  "token_ids_logprob",
  "return_text_in_logprobs",
  "return_prompt_token_ids",
  "return_hidden_states",
  "return_routed_experts",
  "routed_experts_start_len",
  "lora_path",
  "priority",
  "extra_key",
  "session_id",
  "routed_dp_rank",
  "image_data",
  "video_data",
  "audio_data",
] as const;

function lengthOf(value: unknown): number {
  return Array.isArray(value) ? value.length : 0;
}
