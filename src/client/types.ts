import type { RoutedExperts } from "./routed_experts.ts";
import type { SamplingAliases } from "./sampling_aliases.ts";

/** One of the ways in which a generation can end. */
export type FinishReason =
  /** `max_new_tokens` was reached. */
  | { readonly type: "length"; readonly length: number }
  /** A stop token (its id) or a stop string (its text) was made. */
  | { readonly type: "stop"; readonly matched: number | string | null }
  /** The request was aborted; what was made so far is kept. */
  | {
    readonly type: "abort";
    readonly message: string;
    readonly statusCode: number | null;
  };

/** A run of output tokens that one policy version made: `[start, end)`. */
export interface VersionSpan {
  /** The weight version. */
  readonly version: string;
  /** Index of the first output token of the span. */
  readonly start: number;
  /** Index after its last output token. */
  readonly end: number;
}

/** The likeliest tokens at one position, likeliest first. */
export interface TopLogProbs {
  /** Token ids. */
  readonly ids: Int32Array;
  /** Their log-probabilities. */
  readonly logProbs: Float32Array;
}

/** What to send to `/generate` for one prompt. Exactly one of `text` and `inputIds` is given. */
export interface GenerateRequest {
  /** The prompt as text; the server tokenises it. */
  readonly text?: string | undefined;
  /** The prompt as token ids, at least one, each below the vocabulary size. */
  readonly inputIds?: ArrayLike<number> | undefined;
  /** How to sample; see {@linkcode SamplingParams} for defaults. */
  readonly samplingParams?: SamplingInput | undefined;
  /** Return the log-probability of every output token. Default `false`. */
  readonly returnLogProbs?: boolean | undefined;
  /** First prompt position whose log-probability is returned; `-1` (default) for none. */
  readonly logProbStartLen?: number | undefined;
  /** How many likeliest tokens to return at each position. Default 0. */
  readonly topLogProbs?: number | undefined;
  /** Return the log-probabilities of these ids at each position. */
  readonly tokenIdsLogProb?: readonly number[] | undefined;
  /** Return the prompt's token ids (servers from 0.5.13). Default `false`. */
  readonly returnPromptIds?: boolean | undefined;
  /** Return hidden states; the server needs `--enable-return-hidden-states`. */
  readonly returnHiddenStates?: boolean | undefined;
  /**
   * Return the experts that tokens went to; the server needs `--enable-return-routed-experts` and a
   * model with experts. `true`: of all tokens. `"sampled"`: only of the positions that the sampled ids
   * were computed at, one entry for each id; the prompt is then given as ids. Seen from 0.5.16.
   */
  readonly returnRoutedExperts?: boolean | "sampled" | undefined;
  /** First position whose experts are returned, at most the prompt's length. Default 0. */
  readonly routedExpertsStartLen?: number | undefined;
  /** Request id; default a fresh UUID, so that the request can be aborted. */
  readonly rid?: string | undefined;
  /** Name of a loaded LoRA adapter. */
  readonly lora?: string | undefined;
  /** Priority; the server needs `--enable-priority-scheduling`. */
  readonly priority?: number | undefined;
  /** Namespace of the prefix cache. */
  readonly extraKey?: string | undefined;
  /** Session whose requests share a prefix (servers from 0.5.15). */
  readonly sessionId?: string | undefined;
  /** Data-parallel rank to run on. */
  readonly routedDpRank?: number | undefined;
  /** Further top-level fields of the request body, sent as they are. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

/** One sample: what a server generated for one prompt, in the form that a trainer needs. */
export interface Generation {
  /** The text, without the stop string; `null` when the server has no tokenizer. */
  readonly text: string | null;
  /** The sampled token ids, stop token included. Shape `(R)`. */
  readonly ids: Int32Array;
  /** Log-probability of each sampled token. Shape `(R)`; `null` when not asked for. */
  readonly logProbs: Float32Array | null;
  /** The prompt's token ids `(P)`, when they are known: sent by the caller or returned. */
  readonly promptIds: Int32Array | null;
  /**
   * Log-probabilities of the prompt from `logProbStartLen` on; the first token of a prompt has
   * none and is `NaN`. `null` when not asked for.
   */
  readonly promptLogProbs: Float32Array | null;
  /** The likeliest tokens at each output position; `null` when not asked for. */
  readonly topLogProbs: readonly TopLogProbs[] | null;
  /** The same for the prompt; `null` at the first token. */
  readonly promptTopLogProbs: readonly (TopLogProbs | null)[] | null;
  /** Log-probabilities of the ids of `tokenIdsLogProb` at each output position. */
  readonly tokenIdsLogProbs: readonly TopLogProbs[] | null;
  /** The same for the prompt; `null` at the first token. */
  readonly promptTokenIdsLogProbs: readonly (TopLogProbs | null)[] | null;
  /** The experts that its tokens went to; absent or `null` when not asked for. */
  readonly routedExperts?: RoutedExperts | null | undefined;
  /** Why it ended. An aborted sample is not an error: filter on `finishReason.type`. */
  readonly finishReason: FinishReason;
  /** Weight version of the server when the request ended. */
  readonly weightVersion: string | null;
  /** Versions of the tokens, where the server tells them (from 0.5.20). */
  readonly weightVersions: readonly VersionSpan[] | null;
  /** Prompt length; `null` when the server did not tell. */
  readonly promptTokens: number | null;
  /** Number of output tokens. */
  readonly completionTokens: number;
  /** Prompt tokens that came from the prefix cache; `null` when the server did not tell. */
  readonly cachedTokens: number | null;
  /** The server's id of the request. */
  readonly id: string;
  /** Address of the server or router that answered. */
  readonly server: string;
  /** Wall time of the call, in milliseconds. */
  readonly latencyMs: number;
  /** The server's own end-to-end time, in milliseconds; `null` when it did not tell. */
  readonly serverLatencyMs: number | null;
  /**
   * The rest of `meta_info`, as received: without the columns that became arrays here, unless they
   * have the texts of the tokens (`return_text_in_logprobs`).
   */
  readonly meta: Readonly<Record<string, unknown>>;
}

/** A sample whose log-probabilities were asked for. */
export interface GenerationWithLogProbs extends Generation {
  /** Log-probability of each sampled token. Shape `(R)`. */
  readonly logProbs: Float32Array;
}

/** A step of a streamed generation. */
export interface GenerationDelta {
  /** Text since the last step. */
  readonly text: string;
  /** Token ids since the last step. */
  readonly ids: Int32Array;
  /** Their log-probabilities; `null` when not asked for. */
  readonly logProbs: Float32Array | null;
  /** Set on the last step only: the whole sample. */
  readonly final: Generation | null;
}

/**
 * How to sample. All fields are optional; unset ones take the server's defaults. Unknown names are
 * refused before anything is sent, with the nearest known name.
 *
 * Source of names, defaults and ranges: SGLang `srt/sampling/sampling_params.py`.
 */
export interface SamplingParams {
  /** Most tokens to make. Server default 128. */
  readonly maxNewTokens?: number | undefined;
  /** Fewest tokens to make before a stop counts. Default 0. */
  readonly minNewTokens?: number | undefined;
  /** 0 or more; 0 is greedy. Default 1. */
  readonly temperature?: number | undefined;
  /** Nucleus mass, in (0, 1]. Default 1. */
  readonly topP?: number | undefined;
  /** Number of likeliest tokens kept, or -1 for all. Default -1. */
  readonly topK?: number | undefined;
  /** Smallest share of the likeliest token's probability, in [0, 1]. Default 0. */
  readonly minP?: number | undefined;
  /** In [-2, 2]. Default 0. */
  readonly frequencyPenalty?: number | undefined;
  /** In [-2, 2]. Default 0. */
  readonly presencePenalty?: number | undefined;
  /** In (0, 2]. Default 1. */
  readonly repetitionPenalty?: number | undefined;
  /** Stop strings. */
  readonly stop?: string | readonly string[] | undefined;
  /** Stop tokens. */
  readonly stopTokenIds?: readonly number[] | undefined;
  /** Stop patterns. */
  readonly stopRegex?: string | readonly string[] | undefined;
  /** Go on after the end-of-sequence token; also disables `stopTokenIds`. Default false. */
  readonly ignoreEos?: boolean | undefined;
  /** Leave special tokens out of the text. Default true. */
  readonly skipSpecialTokens?: boolean | undefined;
  /** Put spaces between special tokens. Default true. */
  readonly spacesBetweenSpecialTokens?: boolean | undefined;
  /** Keep the stop string in the text. Default false. */
  readonly noStopTrim?: boolean | undefined;
  /** Samples for each prompt. Default 1. */
  readonly n?: number | undefined;
  /** Beams (servers from 0.5.22). */
  readonly beamWidth?: number | undefined;
  /** JSON schema, as a string or an object; at most one of the four grammars may be set. */
  readonly jsonSchema?: string | Readonly<Record<string, unknown>> | undefined;
  /** Regular expression that the text must match. */
  readonly regex?: string | undefined;
  /** EBNF grammar. */
  readonly ebnf?: string | undefined;
  /** Structural tag. */
  readonly structuralTag?: string | undefined;
  /** Added to the logit of a token id. */
  readonly logitBias?: Readonly<Record<number, number>> | undefined;
  /** Seed; refused where the server lacks `--enable-deterministic-inference`, which ignores it. */
  readonly samplingSeed?: number | undefined;
  /** Tokens between two stream events. */
  readonly streamInterval?: number | undefined;
  /** Parameters of a custom logit processor. */
  readonly customParams?: Readonly<Record<string, unknown>> | undefined;
}

/**
 * Sampling parameters by this library's names, or by vLLM's, Hugging Face's or SGLang's.
 *
 * One rule holds when a parameter is given under two names: equal values are fine; of different
 * values vLLM's name wins, as in TorchRL, and the logger is warned; between any other two names the
 * call is refused.
 */
export interface SamplingInput extends SamplingParams, SamplingAliases {}

/** Options of a single call. */
export interface CallOptions {
  /** Cancels the call. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline in milliseconds; each call documents its default. */
  readonly timeoutMs?: number | undefined;
}

/** How {@linkcode SGLangClient.parseFunctionCall} reads a text. */
export interface ParseFunctionCallOptions extends CallOptions {
  /** Tools as they were given to the model, in OpenAI's shape. Most parsers find nothing without. */
  readonly tools: readonly unknown[];
  /** How the model writes calls: a name that the server's `--tool-call-parser` knows. */
  readonly toolCallParser: string;
}

/** What a server found in an answer. */
export interface ParsedFunctionCalls {
  /** The text beside the calls. */
  readonly normalText: string;
  /** The calls, in order. Calls of tools that were not given are mostly left out. */
  readonly calls: readonly ParsedFunctionCall[];
}

/** One call, as a server read it. */
export interface ParsedFunctionCall {
  /** Number of the call or of its tool, as the parser counts. */
  readonly toolIndex: number;
  /** Name of the tool, where the parser tells one. */
  readonly name: string | null;
  /** The arguments, mostly JSON. */
  readonly parameters: string;
}

/** How {@linkcode SGLangClient.separateReasoning} reads a text. */
export interface SeparateReasoningOptions extends CallOptions {
  /** How the model marks its thoughts: a name that the server's `--reasoning-parser` knows. */
  readonly reasoningParser: string;
}

/** An answer without its thoughts, and the thoughts. */
export interface SeparatedReasoning {
  /** The thoughts; `null` where there are none. */
  readonly reasoningText: string | null;
  /** The rest. */
  readonly text: string;
}

/** How a pause treats what is running. */
export type PauseMode = "abort" | "retract" | "in_place";

/** What a server reported about itself; secrets are removed. */
export interface ServerInfo {
  /** SGLang version, for example `0.5.16`. */
  readonly version: string;
  /** Tensor-parallel size. */
  readonly tpSize: number;
  /** Data-parallel size. */
  readonly dpSize: number;
  /** Pipeline-parallel size. */
  readonly ppSize: number;
  /** Path or name of the model. */
  readonly modelPath: string;
  /** Most requests that run at once; `null` when not told. */
  readonly maxRunningRequests: number | null;
  /** Tokens that fit the KV pool; `null` when not told. */
  readonly maxTotalTokens: number | null;
  /** Longest accepted prompt; `null` when not told. */
  readonly maxInputTokens: number | null;
  /** Vocabulary size; `null` when not told. */
  readonly vocabSize: number | null;
  /** Everything else, without secrets. */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** What `/model_info` answers. */
export interface ModelInfo {
  /** Path or name of the model. */
  readonly modelPath: string;
  /** Path or name of the tokenizer. */
  readonly tokenizerPath: string | null;
  /** The current weight version. */
  readonly weightVersion: string | null;
  /** The model's type, for example `qwen2`. */
  readonly modelType: string | null;
  /** Class names of the model. */
  readonly architectures: readonly string[];
  /** Everything, as received. */
  readonly raw: Readonly<Record<string, unknown>>;
}
