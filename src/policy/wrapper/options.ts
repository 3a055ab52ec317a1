import { convertSamplingParams } from "../../client/sampling_params.ts";
import type { SamplingInput } from "../../client/types.ts";
import type { GenerateOptions } from "../../engine/engine.ts";
import { ValidationError } from "../../errors.ts";
import type { Clock } from "../../internal/clock.ts";
import { type Logger, warningLogger } from "../../internal/logger.ts";
import { checkOneOf, checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import type { ToolCallFormat } from "../answers/call_format.ts";
import { toolCallFormats } from "../answers/formats.ts";
import type { AnswerReader } from "../answers/read_answer.ts";
import type { PadLayout } from "../padding.ts";
import { checkTemplateLimits, type TemplateLimits } from "../templates/jinja/mod.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { checkTemplateVariables } from "./template_variables.ts";

/** What a wrapper reads: conversations, texts or token ids. */
export type InputMode = "history" | "text" | "tokens";

/** What to do when given token ids do not belong to the given conversation or text. */
export type DriftAction = "refuse" | "repair" | "report";

/** Fields of a generate request that a wrapper passes on. */
export type RequestOptions = Pick<
  GenerateOptions,
  | "topLogProbs"
  | "tokenIdsLogProb"
  | "returnHiddenStates"
  | "returnRoutedExperts"
  | "lora"
  | "priority"
  | "extraKey"
  | "sessionId"
  | "routedDpRank"
  | "extra"
>;

/** Options of {@linkcode LLMWrapperBase}; the names are TorchRL's in camel case. */
export interface LLMWrapperOptions<Mode extends InputMode = InputMode> {
  /**
   * Turns text into ids, or the folder of a model that has one. Default: the folder that the server
   * reports, if it can be read here without asking for permission; else the server itself.
   */
  readonly tokenizer?: Tokenizer | string | undefined;
  /** What is read. Default `"history"`. */
  readonly inputMode?: Mode | undefined;
  /** Where it is read, as a path. Default `[mode, "prompt"]`, or `[mode, "full"]` to score. */
  readonly inputKey?: string | readonly string[] | undefined;
  /** Generate (default), or score given tokens without generating. */
  readonly generate?: boolean | undefined;
  /**
   * How to sample, by this library's names or those of vLLM, Hugging Face or SGLang. Unset ones take
   * TorchRL's defaults: temperature 1, 128 new tokens. Names that nobody knows are refused.
   */
  readonly generateKwargs?: SamplingInput | undefined;
  /** Further fields of each request, such as `lora` or `priority`. */
  readonly requestOptions?: RequestOptions | undefined;
  /** Variables for the chat template, such as `tools` or `enable_thinking`. */
  readonly tokenizerKwargs?: Readonly<Record<string, unknown>> | undefined;
  /** Pad tokens, masks and log-probs to rectangles. Default `false`: ragged rows. */
  readonly padOutput?: boolean | undefined;
  /** Where pads go. Default `"left"`, as TorchRL documents it. */
  readonly padLayout?: PadLayout | undefined;
  /** Id to pad with. Default the tokenizer's padding or end-of-sequence token, else 0. */
  readonly padId?: number | undefined;
  /**
   * `true` writes the outputs into the input object and returns it; `false` and `"empty"` return a
   * new object with the outputs only. Default `true`, or `false` when `numSamples` is above 1.
   */
  readonly inplace?: boolean | "empty" | undefined;
  /** Samples for each prompt, as a last dimension of the batch. Default one, without it. */
  readonly numSamples?: number | undefined;
  /** Named chat template, or `"model"` for the tokenizer's own; see {@linkcode chooseTemplate}. */
  readonly chatTemplateName?: string | undefined;
  /**
   * What decides when none is named: `"model"` (default) takes the model's own, `"torchrl"` guesses by
   * the model's name first, as TorchRL does.
   */
  readonly chatTemplateOrder?: "model" | "torchrl" | undefined;
  /** Chat template as Jinja source. */
  readonly chatTemplate?: string | undefined;
  /**
   * What a chat template may use while it renders; unset ones have the defaults of
   * {@linkcode TemplateLimits}.
   */
  readonly templateLimits?: Partial<TemplateLimits> | undefined;
  /**
   * Reads tool calls and reasoning of answers in place of {@linkcode readAnswer}, for example by
   * asking the server's own parsers: see {@linkcode serverAnswerReader}.
   */
  readonly readAnswer?: AnswerReader | undefined;
  /**
   * Ways in which the model writes calls of tools; other spellings are words like others. Default those
   * that its template and its tokens tell of, or all where they tell of none.
   */
  readonly toolCallFormats?: readonly ToolCallFormat[] | undefined;
  /** Return log-probabilities. Default `true`. */
  readonly returnLogProbs?: boolean | undefined;
  /** Key of the conversations. Default `"history"`. */
  readonly historyKey?: string | undefined;
  /** Key of the texts. Default `"text"`. */
  readonly textKey?: string | undefined;
  /** Key of the tokens. Default `"tokens"`. */
  readonly tokensKey?: string | undefined;
  /** Key of the masks. Default `"masks"`. */
  readonly masksKey?: string | undefined;
  /** Key of the log-probabilities. Default `"logProbs"`. */
  readonly logProbsKey?: string | undefined;
  /** Gather concurrent callers into batches. Default on when a batch size is given. */
  readonly batching?: boolean | undefined;
  /** Rows from which on a batch runs at once. Default 1. */
  readonly minBatchSize?: number | undefined;
  /** Most rows of a batch; a single caller with more runs alone. Default no limit. */
  readonly maxBatchSize?: number | undefined;
  /** Longest wait of a caller for others, in milliseconds. Default 10 000. */
  readonly batchingTimeoutMs?: number | undefined;
  /**
   * Send the ids of the input where it has any, and tokenise text only where it has none. Default
   * `true`, so that a next turn starts with the very ids of the turn before.
   */
  readonly preferTokens?: boolean | undefined;
  /**
   * What to do when the ids of the input do not belong to its conversation or text: `"refuse"`
   * (default) throws a {@linkcode TokenDriftError}, `"repair"` tokenises the text, `"report"` sends
   * the ids and tells in `samples[i].drift`.
   */
  readonly onTokenDrift?: DriftAction | undefined;
  /** Where warnings go. Default the console. */
  readonly logger?: Logger | undefined;
  /** The time to use for batching. */
  readonly clock?: Clock | undefined;
}

const DEFAULTS = {
  inputMode: "history",
  generate: true,
  padOutput: false,
  padLayout: "left",
  returnLogProbs: true,
  historyKey: "history",
  textKey: "text",
  tokensKey: "tokens",
  masksKey: "masks",
  logProbsKey: "logProbs",
  batchingTimeoutMs: 10_000,
  preferTokens: true,
  onTokenDrift: "refuse",
} as const;

const OPTION_NAMES = {
  tokenizer: true,
  inputMode: true,
  inputKey: true,
  generate: true,
  generateKwargs: true,
  requestOptions: true,
  tokenizerKwargs: true,
  padOutput: true,
  padLayout: true,
  padId: true,
  inplace: true,
  numSamples: true,
  chatTemplateName: true,
  chatTemplateOrder: true,
  templateLimits: true,
  readAnswer: true,
  toolCallFormats: true,
  chatTemplate: true,
  returnLogProbs: true,
  historyKey: true,
  textKey: true,
  tokensKey: true,
  masksKey: true,
  logProbsKey: true,
  batching: true,
  minBatchSize: true,
  maxBatchSize: true,
  batchingTimeoutMs: true,
  preferTokens: true,
  onTokenDrift: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<LLMWrapperOptions>;

/** Options of {@linkcode LLMWrapperBase.sampler}. */
export interface SamplerOptions {
  /** Seed in place of the one in `generateKwargs`. */
  readonly samplingSeed?: number | undefined;
}

/** The names of all of them. */
export const SAMPLER_OPTION_NAMES = {
  samplingSeed: true,
} as const satisfies OptionNames<SamplerOptions>;

/** Options of a call of a wrapper. */
export interface PolicyCallOptions {
  /** Cancels the call and what it asked of the servers. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline of the whole call in milliseconds, waiting for a batch included. Default none but the engine's own. */
  readonly timeoutMs?: number | undefined;
}

/** The names of all of them. */
export const POLICY_CALL_NAMES = {
  signal: true,
  timeoutMs: true,
} as const satisfies OptionNames<PolicyCallOptions>;

/** The same of a call for each of several inputs. */
export const MAP_NAMES = { ...POLICY_CALL_NAMES, concurrency: true } as const;

/** Options with their defaults, checked. */
export interface WrapperSettings extends LLMWrapperOptions {
  /** What is read. */
  readonly inputMode: InputMode;
  /** Where it is read. */
  readonly inputPath: readonly string[];
  /** Generate, or score. */
  readonly generate: boolean;
  /** Whether outputs are padded. */
  readonly padOutput: boolean;
  /** Where pads go. */
  readonly padLayout: PadLayout;
  /** Whether outputs go into the input object. */
  readonly inplace: boolean;
  /** Samples for each prompt; `undefined` for one without a dimension of its own. */
  readonly numSamples: number | undefined;
  /** The seed in `generateKwargs`, under whichever name. */
  readonly samplingSeed: number | undefined;
  /** Whether log-probabilities are returned. */
  readonly returnLogProbs: boolean;
  /** Key of the conversations. */
  readonly historyKey: string;
  /** Key of the texts. */
  readonly textKey: string;
  /** Key of the tokens. */
  readonly tokensKey: string;
  /** Key of the masks. */
  readonly masksKey: string;
  /** Key of the log-probabilities. */
  readonly logProbsKey: string;
  /** Whether callers are gathered. */
  readonly batching: boolean;
  /** Rows from which on a batch runs. */
  readonly minBatchSize: number;
  /** Most rows of a batch; may be `Infinity`. */
  readonly maxBatchSize: number;
  /** Longest wait of a caller for others. */
  readonly batchingTimeoutMs: number;
  /** Whether ids of the input are sent. */
  readonly preferTokens: boolean;
  /** What to do with ids of another text. */
  readonly onTokenDrift: DriftAction;
  /** Where warnings go. */
  readonly logger: Logger;
}

/**
 * Checks options and fills in the defaults.
 *
 * @throws {ValidationError} An option is unknown, out of range, or does not go with another.
 */
export function checkOptions(options: LLMWrapperOptions): WrapperSettings {
  checkOptionNames(options, OPTION_NAMES, "an SGLangWrapper");
  const given = withDefaults(options);
  checkOneOf("inputMode", given.inputMode, ["history", "text", "tokens"]);
  checkOneOf("padLayout", given.padLayout, ["left", "upstream"]);
  checkOneOf("onTokenDrift", given.onTokenDrift, ["refuse", "repair", "report"]);
  for (const format of given.toolCallFormats ?? []) {
    checkOneOf("toolCallFormats", format, toolCallFormats);
  }
  checkTemplateLimits(options.templateLimits);
  checkTemplateVariables(options.tokenizerKwargs);
  if (!given.generate && !given.returnLogProbs) {
    throw new ValidationError(
      "returnLogProbs must be true when generate is false: scores are all that is returned",
    );
  }
  const { numSamples, samplingSeed } = samplingOf(options, given.generate);
  return {
    ...given,
    ...batchSizes(options),
    logger: options.logger ?? warningLogger,
    numSamples,
    samplingSeed,
    inplace: checkInplace(options.inplace, numSamples),
    inputPath: inputPath(options.inputKey, given),
  };
}

function withDefaults(options: LLMWrapperOptions): typeof DEFAULTS & LLMWrapperOptions & {
  inputMode: InputMode;
  generate: boolean;
  padOutput: boolean;
  padLayout: PadLayout;
  returnLogProbs: boolean;
  preferTokens: boolean;
  onTokenDrift: DriftAction;
} {
  const set = Object.entries(options).filter(([, value]) => value !== undefined && value !== null);
  return { ...DEFAULTS, ...Object.fromEntries(set) };
}

function samplingOf(
  options: LLMWrapperOptions,
  generate: boolean,
): Pick<WrapperSettings, "numSamples" | "samplingSeed"> {
  const { numSamples } = options;
  const { samplingParams, warnings } = convertSamplingParams(options.generateKwargs, {
    topKMayBeOff: false,
  });
  for (const warning of warnings) (options.logger ?? warningLogger).warn(warning);
  const n = samplingParams.n as number | undefined;
  if (numSamples !== undefined && (!Number.isInteger(numSamples) || numSamples < 1)) {
    throw new ValidationError(`numSamples must be an integer of at least 1, got ${numSamples}`);
  }
  if (numSamples !== undefined && n !== undefined && n !== numSamples) {
    throw new ValidationError(`numSamples (${numSamples}) differs from generateKwargs.n (${n})`);
  }
  const samples = numSamples ?? (n !== undefined && n > 1 ? n : undefined);
  if (!generate && (samples ?? 1) > 1) {
    throw new ValidationError("numSamples has no meaning when generate is false");
  }
  return {
    numSamples: samples,
    samplingSeed: samplingParams.sampling_seed as number | undefined,
  };
}

function checkInplace(inplace: boolean | "empty" | undefined, numSamples = 1): boolean {
  if (inplace === undefined || inplace === null) return numSamples === 1;
  if (numSamples > 1 && inplace !== false) {
    throw new ValidationError(
      `inplace must be false when numSamples is above 1, got ${JSON.stringify(inplace)}: ` +
        "the outputs have another batch shape than the input",
    );
  }
  return inplace === true;
}

function batchSizes(
  { batching, minBatchSize, maxBatchSize, batchingTimeoutMs = 10_000 }: LLMWrapperOptions,
): Pick<WrapperSettings, "batching" | "minBatchSize" | "maxBatchSize" | "batchingTimeoutMs"> {
  const isSizeGiven = minBatchSize !== undefined || maxBatchSize !== undefined;
  if (batching === false && isSizeGiven) {
    throw new ValidationError("minBatchSize and maxBatchSize have no meaning with batching: false");
  }
  for (const [name, size] of Object.entries({ minBatchSize, maxBatchSize })) {
    if (size === undefined || (Number.isInteger(size) && size >= 1)) continue;
    throw new ValidationError(`${name} must be an integer of at least 1, got ${size}`);
  }
  if (!(batchingTimeoutMs >= 0) || batchingTimeoutMs === Infinity) {
    throw new ValidationError(
      `batchingTimeoutMs must be a finite number of milliseconds, got ${batchingTimeoutMs}`,
    );
  }
  const min = minBatchSize ?? 1;
  const max = maxBatchSize ?? Infinity;
  if (min > max) {
    throw new ValidationError(`minBatchSize (${min}) must be <= maxBatchSize (${max})`);
  }
  return {
    batching: batching ?? isSizeGiven,
    minBatchSize: min,
    maxBatchSize: max,
    batchingTimeoutMs,
  };
}

function inputPath(
  inputKey: string | readonly string[] | undefined,
  keys: {
    inputMode: InputMode;
    generate: boolean;
    historyKey: string;
    textKey: string;
    tokensKey: string;
  },
): readonly string[] {
  if (typeof inputKey === "string") return [inputKey];
  if (inputKey !== undefined && inputKey.length > 0) return inputKey;
  const byMode = { history: keys.historyKey, text: keys.textKey, tokens: keys.tokensKey };
  return [byMode[keys.inputMode], keys.generate ? "prompt" : "full"];
}
