import { ValidationError } from "../errors.ts";
import { nearestName } from "../internal/suggest.ts";
import { ALIASES, type AliasRule, REFUSED } from "./sampling_aliases.ts";
import {
  biases,
  flag,
  integerFrom,
  jsonSchema,
  numberThat,
  type ParameterCheck,
  record,
  refused,
  text,
  texts,
  tokenIds,
} from "./sampling_checks.ts";
import type { SamplingInput, SamplingParams } from "./types.ts";

/** Sampling parameters in wire form. */
export interface WireSampling {
  /** `sampling_params` of the request. */
  readonly samplingParams: Readonly<Record<string, unknown>>;
  /** Top-level fields of the request that a sampling name of another library stands for. */
  readonly requestFields: Readonly<Record<string, unknown>>;
  /** What a reader of the log should know, such as a name that lost to another. */
  readonly warnings: readonly string[];
}

/** How to convert. */
export interface ConvertSamplingOptions {
  /**
   * Sent when not given. Default TorchRL's: temperature 1, top_p 1, 128 new tokens, no penalties.
   * `{}` leaves the choice to the server (`--preferred-sampling-params`).
   */
  readonly defaults?: SamplingParams | undefined;
  /**
   * Whether `top_k` of -1 or 0 means all tokens, as in vLLM and Hugging Face. Default `true`;
   * `false` refuses them, as TorchRL's wrapper does.
   */
  readonly topKMayBeOff?: boolean | undefined;
}

/** The defaults of TorchRL's SGLang engine. */
export const TORCHRL_SAMPLING_DEFAULTS: SamplingParams = {
  temperature: 1,
  topP: 1,
  maxNewTokens: 128,
  frequencyPenalty: 0,
  presencePenalty: 0,
  repetitionPenalty: 1,
};

const penalty = numberThat("must be between -2 and 2", (value) => value >= -2 && value <= 2);

/** Every sampling parameter of SGLang by wire name (`srt/sampling/sampling_params.py`). */
const PARAMETERS: Readonly<Record<string, ParameterCheck>> = {
  max_new_tokens: integerFrom(0),
  min_new_tokens: integerFrom(0),
  temperature: (value) =>
    numberThat("must be non-negative", (number) => number >= 0)(value, "Temperature"),
  top_p: numberThat("must be between 0 and 1, 0 excluded", (value) => value > 0 && value <= 1),
  top_k: integerFrom(-1),
  min_p: numberThat("must be between 0 and 1", (value) => value >= 0 && value <= 1),
  frequency_penalty: penalty,
  presence_penalty: penalty,
  repetition_penalty: numberThat(
    "must be positive and at most 2",
    (value) => value > 0 && value <= 2,
  ),
  stop: texts,
  stop_token_ids: tokenIds,
  stop_regex: texts,
  ignore_eos: flag,
  skip_special_tokens: flag,
  spaces_between_special_tokens: flag,
  no_stop_trim: flag,
  n: integerFrom(1),
  beam_width: integerFrom(1),
  json_schema: jsonSchema,
  regex: text,
  ebnf: text,
  structural_tag: text,
  logit_bias: biases,
  sampling_seed: integerFrom(Number.MIN_SAFE_INTEGER),
  stream_interval: integerFrom(1),
  custom_params: record,
};

/** Sampling parameters, in wire form, that give an answer its form by a grammar. */
export const GRAMMARS = ["json_schema", "regex", "ebnf", "structural_tag"] as const;

/** Whether sampling parameters in wire form give an answer its form by a grammar. */
export function isUnderGrammar(wire: Readonly<Record<string, unknown>>): boolean {
  return GRAMMARS.some((name) => name in wire);
}

/** Names that need more than a renaming, and what they set. */
const SPECIAL: Readonly<Record<string, readonly string[]>> = {
  do_sample: ["temperature"],
  eos_token_id: ["stop_token_ids"],
  sequence_bias: ["logit_bias"],
  logprobs: ["return_logprob", "top_logprobs_num"],
  prompt_logprobs: ["return_logprob", "top_logprobs_num", "logprob_start_len"],
  structured_outputs: GRAMMARS,
  guided_decoding: GRAMMARS,
};

/**
 * Checks sampling parameters and brings them into wire form. Nothing is dropped: a name that SGLang
 * has nothing for is refused, with the nearest known name or with what to do instead.
 *
 * @example
 * ```ts
 * import { convertSamplingParams } from "@sglang-rl/sglang-rl/client";
 *
 * const { samplingParams } = convertSamplingParams({ max_tokens: 16, stop: ["\n"] });
 * // { temperature: 1, top_p: 1, max_new_tokens: 16, …, stop: ["\n"] }
 * ```
 *
 * @throws {ValidationError} A name is unknown, a value is out of range, or two names conflict.
 */
export function convertSamplingParams(
  input: SamplingInput = {},
  options: ConvertSamplingOptions = {},
): WireSampling {
  const given = new SamplingTable();
  for (const [name, value] of Object.entries(input)) {
    if (value !== undefined && value !== null) given.add(name, value);
  }
  const { samplingParams, requestFields, warnings } = given;
  const defaults = Object.entries(options.defaults ?? TORCHRL_SAMPLING_DEFAULTS);
  for (const [name, value] of defaults) {
    const wireName = toSnakeCase(name);
    if (!(wireName in samplingParams) && value !== undefined) samplingParams[wireName] = value;
  }
  if (given.isGreedy) applyGreedy(samplingParams, given.names.has("temperature"));
  checkTopK(samplingParams, options.topKMayBeOff ?? true);

  const checked: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(samplingParams)) {
    const wire = PARAMETERS[name]!(value, name);
    if (wire !== undefined) checked[name] = wire;
  }
  checkTogether(checked);
  return { samplingParams: checked, requestFields, warnings };
}

/** Whether a name can be given as a sampling parameter, or is refused with what to do instead. */
export function isSamplingName(name: string): boolean {
  const snake = toSnakeCase(name);
  return snake in PARAMETERS || snake in ALIASES || snake in REFUSED || snake in SPECIAL;
}

/** `base` where `overrides` has nothing to say about a parameter, under whichever name. */
export function mergeSampling(base: SamplingInput, overrides: SamplingInput): SamplingInput {
  const isSet = ([, value]: [string, unknown]) => value !== undefined && value !== null;
  const overridden = new Set(
    Object.entries(overrides).filter(isSet).flatMap(([name]) => targets(name)),
  );
  const kept = Object.entries(base).filter(([name]) =>
    !targets(name).some((target) => overridden.has(target))
  );
  return { ...Object.fromEntries(kept), ...overrides };
}

/** What a name sets, by wire name. */
function targets(name: string): readonly string[] {
  const snake = toSnakeCase(name);
  const target = ALIASES[snake]?.target;
  return SPECIAL[snake] ?? [target ?? snake];
}

/** The sampling name nearest to a misspelt one. */
export function nearestSamplingName(name: string): string | undefined {
  return nearestName(name, [
    ...Object.keys(PARAMETERS).map(toCamelCase),
    ...Object.keys(PARAMETERS),
    ...Object.keys(ALIASES),
    ...Object.keys(SPECIAL),
  ]);
}

/** Collects values by wire name and settles conflicts between two names of one parameter. */
class SamplingTable {
  readonly samplingParams: Record<string, unknown> = {};
  readonly requestFields: Record<string, unknown> = {};
  readonly warnings: string[] = [];
  /** The name under which each value was given, by wire name. */
  readonly names = new Map<string, { name: string; isVllm: boolean }>();
  isGreedy = false;

  add(name: string, value: unknown): void {
    const snake = toSnakeCase(name);
    if (snake in PARAMETERS) {
      this.#set(snake, value, { name, isVllm: VLLM_NAMES.has(snake) });
      return;
    }
    const alias = ALIASES[snake];
    if (alias !== undefined) {
      this.#addAlias(name, value, alias);
      return;
    }
    if (snake in SPECIAL) {
      this.#addSpecial(name, value);
      return;
    }
    throw unknownName(name, snake);
  }

  #addAlias(name: string, value: unknown, alias: AliasRule): void {
    // One beam is no beam search; servers before 0.5.22 do not know the name.
    if (alias.target === "beam_width" && value === 1) return;
    this.#set(alias.target, value, {
      name,
      isVllm: alias.origin === "vllm",
      isRequestField: alias.isRequestField ?? false,
    });
  }

  #addSpecial(name: string, value: unknown): void {
    switch (toSnakeCase(name)) {
      case "do_sample":
        this.isGreedy = !flag(value, name);
        return;
      case "eos_token_id":
        this.#set("stop_token_ids", tokenIds(value, name), { name, isVllm: false });
        return;
      case "sequence_bias":
        this.#set("logit_bias", singleTokenBias(value, name), { name, isVllm: false });
        return;
      case "logprobs":
        this.#setField("return_logprob", true, name);
        this.#setField("top_logprobs_num", integerFrom(0)(value, name), name);
        return;
      case "prompt_logprobs":
        this.#setField("return_logprob", true, name);
        this.#setField("logprob_start_len", 0, name);
        this.#setField("top_logprobs_num", integerFrom(0)(value, name), name);
        return;
      default:
        this.#addGrammars(name, record(value, name) as Record<string, unknown>);
    }
  }

  #addGrammars(name: string, grammars: Record<string, unknown>): void {
    const targets: Record<string, string> = {
      json: "json_schema",
      regex: "regex",
      grammar: "ebnf",
      structural_tag: "structural_tag",
      choice: "regex",
    };
    for (const [key, value] of Object.entries(grammars)) {
      if (value === undefined || value === null) continue;
      const target = targets[key];
      if (target === undefined) throw unknownKey(`${name}.${key}`, Object.keys(targets));
      const wire = key === "choice" ? choiceRegex(value, `${name}.choice`) : value;
      this.#set(target, wire, { name: `${name}.${key}`, isVllm: true });
    }
  }

  #setField(target: string, value: unknown, name: string): void {
    this.#set(target, value, { name, isVllm: true, isRequestField: true });
  }

  #set(
    target: string,
    value: unknown,
    from: { name: string; isVllm: boolean; isRequestField?: boolean },
  ): void {
    const values = from.isRequestField ? this.requestFields : this.samplingParams;
    const earlier = this.names.get(target);
    if (earlier !== undefined && !isSame(values[target], value)) {
      const { name, isVllm } = earlier;
      if (isVllm === from.isVllm) {
        throw new ValidationError(
          `${name} and ${from.name} are two names of one parameter with different values: ` +
            `${JSON.stringify(values[target])} and ${JSON.stringify(value)}. Give one of them`,
        );
      }
      const [winner, loser] = isVllm ? [name, from.name] : [from.name, name];
      this.warnings.push(`${winner} wins over ${loser}: two names of one parameter differ`);
      if (isVllm) return;
    }
    values[target] = value;
    this.names.set(target, from);
  }
}

/** Wire names that are vLLM's names too and have a second name elsewhere. */
const VLLM_NAMES: ReadonlySet<string> = new Set(["n", "stop", "stop_token_ids", "logit_bias"]);

function applyGreedy(params: Record<string, unknown>, isTemperatureGiven: boolean): void {
  if (isTemperatureGiven && params.temperature !== 0) {
    throw refused(
      "When do_sample=False (greedy decoding), temperature must be 0",
      params.temperature,
    );
  }
  params.temperature = 0;
}

function checkTopK(params: Record<string, unknown>, mayBeOff: boolean): void {
  const { top_k: topK } = params;
  if (topK === undefined) return;
  if (mayBeOff && (topK === -1 || topK === 0)) delete params.top_k;
  else if (!Number.isInteger(topK) || (topK as number) < 1) {
    throw refused("top_k must be positive" + (mayBeOff ? ", or -1 for all tokens" : ""), topK);
  }
}

function checkTogether(params: Record<string, unknown>): void {
  const { min_new_tokens: least, max_new_tokens: most } = params;
  if (typeof least === "number" && typeof most === "number" && least > most) {
    throw new ValidationError(
      `min_new_tokens (${least}) must be at most max_new_tokens (${most})`,
    );
  }
  const grammars = GRAMMARS.filter((name) => name in params);
  if (grammars.length > 1) {
    throw new ValidationError(`Only one grammar can be given, got ${grammars.join(" and ")}`);
  }
}

function singleTokenBias(value: unknown, name: string): Record<string, number> {
  const bias: Record<string, number> = {};
  for (const pair of Array.isArray(value) ? value : []) {
    const [ids, amount] = pair as [unknown, unknown];
    if (!Array.isArray(ids) || ids.length !== 1) {
      throw refused(`${name} can bias single tokens only`, ids);
    }
    bias[String(ids[0])] = amount as number;
  }
  return bias;
}

function choiceRegex(value: unknown, name: string): string {
  const choices = texts(value, name);
  const list = typeof choices === "string" ? [choices] : choices as string[] | undefined;
  if (list === undefined) throw refused(`${name} must have at least one choice`, value);
  return `(${list.map((choice) => choice.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")).join("|")})`;
}

function unknownName(name: string, snake: string): ValidationError {
  const instead = REFUSED[snake];
  if (instead !== undefined) {
    return new ValidationError(`SGLang has no sampling parameter "${name}": ${instead}`);
  }
  const nearest = nearestSamplingName(name);
  return new ValidationError(
    `Unknown sampling parameter "${name}"` +
      (nearest === undefined ? "" : `; did you mean "${nearest}"?`),
  );
}

function unknownKey(name: string, known: readonly string[]): ValidationError {
  return new ValidationError(`Unknown key "${name}"; known are ${known.join(", ")}`);
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function toSnakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function toCamelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
