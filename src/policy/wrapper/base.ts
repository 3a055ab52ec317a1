import { checkOptionNames } from "../../internal/option_names.ts";
import {
  AbortedError,
  PartialResultError,
  UnsupportedError,
  ValidationError,
} from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import type { Sampler } from "../../rollout/chat_model.ts";
import { checkedLogProbs } from "../../rollout/sample.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { Batcher, type BatchingState } from "./batcher.ts";
import { TemplateChatModel } from "./chat_model.ts";
import type { PolicyInput } from "./inputs.ts";
import { keyedOutput } from "./keyed_output.ts";
import { type FollowingMessages, nextInput } from "./next_input.ts";
import {
  checkOptions,
  type InputMode,
  type LLMWrapperOptions,
  MAP_NAMES,
  type PolicyCallOptions,
  SAMPLER_OPTION_NAMES,
  type SamplerOptions,
  type WrapperSettings,
} from "./options.ts";
import { generatedOutputs, type OutputParts, scoredOutputs } from "./outputs.ts";
import type { DefaultOutput, PolicyOutput, UnknownKeys } from "./policy_output.ts";
import { idsRow, type PromptRow, type RowOutcome, rowsWithSeeds } from "./prompt_row.ts";
import { readPrompts } from "./read_prompts.ts";

/** Any wrapper, whatever it reads and gives out. */
export type AnyLLMWrapper = LLMWrapperBase<InputMode, UnknownKeys>;

/** Prompts of one caller. */
interface PreparedCall {
  readonly prompts: readonly PromptRow[];
}

/**
 * What every policy wrapper does, whatever its engine: reads conversations, texts or ids, finds the
 * exact ids of each prompt, gathers callers, and lays out what comes back. An engine's wrapper adds
 * how rows are generated and scored.
 *
 * @typeParam Mode What it reads, which decides what its outputs have.
 * @typeParam Given Its options, of which those of {@linkcode OutputOptions} decide that too.
 */
export abstract class LLMWrapperBase<
  Mode extends InputMode = InputMode,
  Given = DefaultOutput,
> {
  /** Options with their defaults. */
  protected readonly settings: WrapperSettings;
  readonly #options: LLMWrapperOptions;
  readonly #batcher: Batcher<PreparedCall, readonly RowOutcome[]> | undefined;
  #collector: object | null = null;
  #chatModel: TemplateChatModel | undefined;

  /**
   * Checks the options; opens nothing.
   *
   * @throws {ValidationError} An option is unknown, out of range, or does not go with another.
   */
  constructor(options: LLMWrapperOptions = {}) {
    this.settings = checkOptions(options);
    this.#options = options;
    if (!this.settings.batching) return;
    this.#batcher = new Batcher({
      minRows: this.settings.minBatchSize,
      maxRows: this.settings.maxBatchSize,
      timeoutMs: this.settings.batchingTimeoutMs,
      clock: this.settings.clock,
      rowsOf: ({ prompts }) => prompts.length,
      run: (calls, signal) => this.#runBatch(calls, signal),
    });
  }

  /** The options as they were given. */
  get options(): LLMWrapperOptions {
    return this.#options;
  }

  /** What is read. */
  get inputMode(): Mode {
    return this.settings.inputMode as Mode;
  }

  /** Paths that are read from the input. */
  get inKeys(): readonly (readonly string[])[] {
    return [this.settings.inputPath];
  }

  /** Keys that are written to the output. */
  get outKeys(): readonly string[] {
    const { inputMode, textKey, masksKey, tokensKey, logProbsKey, historyKey } = this.settings;
    return [
      ...(inputMode === "tokens" ? [] : [textKey]),
      masksKey,
      tokensKey,
      ...(this.settings.returnLogProbs ? [logProbsKey] : []),
      ...(inputMode === "history" ? [historyKey] : []),
    ];
  }

  /** Whether concurrent callers are gathered. */
  get batching(): boolean {
    return this.#batcher !== undefined;
  }

  /** The collector that uses this policy, or `null`. */
  get collector(): object | null {
    return this.#collector;
  }

  /** The engine behind the policy, or its address until it is connected. */
  abstract get model(): unknown;

  /**
   * Generates for, or scores, the prompts of an input. Called with an async iterable it gives an
   * async iterator: see {@linkcode LLMWrapperBase.map}.
   *
   * @throws {ValidationError} The input lacks what the mode reads, or it is of another kind.
   * @throws {TokenDriftError} Given ids do not belong to the given text; see `onTokenDrift`.
   * @throws {PartialResultError} Some rows failed: `failures` names them, `partial` has the others.
   * @throws {ContextOverflowError} The only prompt leaves no room for an answer.
   * @throws {AbortedError} The signal fired.
   * @throws {TimeoutError} The deadline passed.
   */
  call(input: PolicyInput, options?: PolicyCallOptions): Promise<PolicyOutput<Mode, Given>>;
  /** Calls for each input of an async iterable, in order: {@linkcode LLMWrapperBase.map}. */
  call(
    inputs: AsyncIterable<PolicyInput>,
    options?: PolicyCallOptions & { readonly concurrency?: number | undefined },
  ): AsyncIterableIterator<PolicyOutput<Mode, Given>>;
  call(
    input: PolicyInput | AsyncIterable<PolicyInput>,
    options: PolicyCallOptions & { readonly concurrency?: number | undefined } = {},
  ): Promise<PolicyOutput<Mode, Given>> | AsyncIterableIterator<PolicyOutput<Mode, Given>> {
    checkOptionNames(options, MAP_NAMES, "a call of a policy");
    if (Symbol.asyncIterator in input) {
      return this.map(input as AsyncIterable<PolicyInput>, options);
    }
    return this.#call(input, options);
  }

  /**
   * Calls for each input of an iterable, several at a time, and yields the outputs in the inputs'
   * order. Leaving the loop early cancels what is under way. Default concurrency 64.
   */
  async *map(
    inputs: AsyncIterable<PolicyInput> | Iterable<PolicyInput>,
    options: PolicyCallOptions & { readonly concurrency?: number | undefined } = {},
  ): AsyncGenerator<PolicyOutput<Mode, Given>> {
    checkOptionNames(options, MAP_NAMES, "a call of a policy");
    const { concurrency = 64, timeoutMs } = options;
    const leave = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, leave.signal]) : leave.signal;
    const underWay: Promise<PolicyOutput<Mode, Given>>[] = [];
    try {
      for await (const input of inputs) {
        const output = this.#call(input, { signal, timeoutMs });
        // Its error is thrown where it is awaited; without this it would count as unhandled before.
        output.catch(() => {});
        underWay.push(output);
        if (underWay.length >= concurrency) yield await underWay.shift()!;
      }
      for (const output of underWay.splice(0)) yield await output;
    } finally {
      leave.abort(new AbortedError("map"));
      await Promise.allSettled(underWay);
    }
  }

  /**
   * Scores given tokens: what a wrapper with `generate: false` does. Reads `[mode, "full"]`. An output
   * of a wrapper, this one or another with the same vocabulary, is scored id for id as it was sampled.
   *
   * @throws {TokenDriftError} Other ids do not belong to the given text; see `onTokenDrift`.
   */
  async logProb(
    input: PolicyInput,
    options: PolicyCallOptions = {},
  ): Promise<PolicyOutput<Mode, Omit<Given, "returnLogProbs">>> {
    type Scores = PolicyOutput<Mode, Omit<Given, "returnLogProbs">>;
    if (!this.settings.generate) return await this.#call(input, options) as Scores;
    const scorer = this.getNewVersion({
      generate: false,
      returnLogProbs: true,
      numSamples: undefined,
      generateKwargs: undefined,
      inputKey: undefined,
      inplace: false,
    });
    return await scorer.call(input, options) as unknown as Scores;
  }

  /** There is no distribution object; scores come from {@linkcode LLMWrapperBase.logProb}. */
  getDist(): never {
    throw new UnsupportedError(
      "A policy on a server has no distribution object: use logProb() for scores of given tokens, " +
        "or requestOptions.topLogProbs for the likeliest tokens at each place",
    );
  }

  /** A new wrapper of the same engine and tokenizer; given options win over the present ones. */
  abstract getNewVersion(overrides?: LLMWrapperOptions): AnyLLMWrapper;

  /**
   * The input of the next turn: the conversations with new messages, and the ids of the turns so far,
   * exactly as they were sampled, with the ids of what lies between. Masks and log-probabilities of
   * the turns so far come along, so that those of the next output cover all turns.
   *
   * A template that writes earlier turns otherwise than they were sampled begins a branch: the prompt
   * is what it makes of the conversation, nothing in it is marked, and `prompts[i].branch` tells
   * where. The earlier rows stay what they are.
   *
   * `messages` is a list of messages for one conversation, or one list for each row.
   *
   * @throws {ValidationError} The output has no conversations, or the lists do not fit its rows.
   */
  async nextTurn(
    output: PolicyOutput<InputMode, Given>,
    messages: FollowingMessages,
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<PolicyInput> {
    const { signal } = options;
    const model = await this.chatModel({ signal });
    return await nextInput(output, messages, { settings: this.settings, model, signal });
  }

  /**
   * What turns of this policy are made with: its tokenizer and chat template, for `prepareTurn()` and
   * `TurnTree` of `./rollout`. The wrapper's own turns are made with the same.
   */
  async chatModel(options: { signal?: AbortSignal | undefined } = {}): Promise<TemplateChatModel> {
    const tokenizer = await this.tokenizer(options);
    if (this.#chatModel?.isOf(tokenizer)) return this.#chatModel;
    const settings = { ...this.settings, tokenizer, variables: this.settings.tokenizerKwargs };
    return this.#chatModel = new TemplateChatModel(settings);
  }

  /**
   * Samples an answer to the ids of one prompt as this wrapper is set to, for `sampleTurn()` of
   * `./rollout`. With `numSamples` it gives the first.
   */
  sampler(options: SamplerOptions = {}): Sampler {
    checkOptionNames(options, SAMPLER_OPTION_NAMES, "sampler()");
    return async (ids, { signal }) => {
      const prompts = [{ ...idsRow(ids), samplingSeed: options.samplingSeed }];
      const [outcome] = await this.#outcomes(prompts, signal);
      if (outcome?.error !== undefined) throw outcome.error;
      const [generation] = outcome!.generations;
      if (this.settings.returnLogProbs) {
        checkedLogProbs(generation!.logProbs, { count: generation!.ids.length });
      }
      return generation!;
    };
  }

  /** The seed in `generateKwargs`; `undefined` where none is given. */
  get samplingSeed(): number | undefined {
    return this.settings.samplingSeed;
  }

  /** Most tokens that a prompt may have; `Infinity` where that is not known. */
  promptLimit(_options: { signal?: AbortSignal | undefined } = {}): Promise<number> {
    return Promise.resolve(Infinity);
  }

  /** Tells the wrapper which collector uses it. */
  registerCollector(collector: object): void {
    this.#collector = collector;
  }

  /** The queue in which callers are gathered. */
  getBatchingState(): BatchingState {
    return this.#batcher?.state ?? { batchingEnabled: false };
  }

  /** Empties the queue: callers are rejected, or served at once with `flush: true`. */
  async cleanupBatching({ flush = false }: { flush?: boolean } = {}): Promise<void> {
    if (flush) await this.#batcher?.flush();
    else this.#batcher?.cancel();
  }

  /** The tokenizer of the policy. */
  abstract tokenizer(options?: { signal?: AbortSignal | undefined }): Promise<Tokenizer>;

  /** Generates for each row; prompt by prompt, `numSamples` for each. */
  protected abstract generateRows(
    prompts: readonly PromptRow[],
    options: { signal: AbortSignal | undefined },
  ): Promise<readonly RowOutcome[]>;

  /** Scores each row: log-probabilities of all its tokens, without generating. */
  protected abstract scoreRows(
    prompts: readonly PromptRow[],
    options: { signal: AbortSignal | undefined },
  ): Promise<readonly RowOutcome[]>;

  async #call(input: PolicyInput, options: PolicyCallOptions): Promise<PolicyOutput<Mode, Given>> {
    const { signal, timeoutMs = Infinity } = options;
    if (typeof input !== "object" || input === null) {
      throw new ValidationError("A policy is called with an object such as { history: messages }");
    }
    return await withDeadline(
      { phase: "policy call", timeoutMs, signal },
      (inner) => this.#answer(input, timeoutMs === Infinity ? signal : inner),
    );
  }

  async #answer(
    input: PolicyInput,
    signal: AbortSignal | undefined,
  ): Promise<PolicyOutput<Mode, Given>> {
    const { generate, numSamples, returnLogProbs } = this.settings;
    const { rows: read, batchShape } = await readPrompts(input, {
      settings: this.settings,
      findTokenizer: () => this.tokenizer({ signal }),
      findModel: () => this.chatModel({ signal }),
      signal,
    });
    const ready = read.flatMap(({ prompt }) => prompt === undefined ? [] : [prompt]);
    const prompts = rowsWithSeeds(ready, this.settings.samplingSeed);
    const answers = (await this.#outcomes(prompts, signal)).values();
    const sent = prompts.values();
    // Rows that could not be prepared stand between those that were sent.
    const outcomes = read.map(({ error }) =>
      error === undefined
        ? { prompt: sent.next().value!, ...answers.next().value! }
        : { prompt: undefined, error, generations: undefined }
    );
    const failures = outcomes.flatMap(({ error }, row) =>
      error === undefined ? [] : [{ row, error }]
    );
    if (failures.length > 0 && failures.length === read.length) throw failures[0]!.error;
    const rows = outcomes.flatMap(({ error }, row) => error === undefined ? [row] : []);
    const isWhole = failures.length === 0;
    const n = numSamples ?? 1;
    const shape = isWhole ? batchShape : [rows.length];
    const source = {
      prompts: rows.flatMap((row) => Array.from({ length: n }, () => outcomes[row]!.prompt!)),
      generations: rows.flatMap((row) => outcomes[row]!.generations!),
      batchShape: numSamples === undefined ? shape : [...shape, n],
      returnLogProbs,
      readsText: this.settings.inputMode !== "tokens",
      decode: async (ids: Int32Array) => await (await this.tokenizer({ signal })).decode(ids),
      signal,
    };
    const parts = generate ? await generatedOutputs(source) : scoredOutputs(source);
    // An input with other rows is left as it is.
    if (isWhole) return await this.#output(parts, this.settings.inplace ? input : null);
    const partial = await this.#output(parts, null);
    throw new PartialResultError({ failures, rows, partial });
  }

  async #outcomes(
    prompts: readonly PromptRow[],
    signal: AbortSignal | undefined,
  ): Promise<readonly RowOutcome[]> {
    if (prompts.length === 0) return [];
    if (this.#batcher === undefined) return await this.#run(prompts, signal);
    return await this.#batcher.submit({ prompts }, signal);
  }

  async #run(
    prompts: readonly PromptRow[],
    signal: AbortSignal | undefined,
  ): Promise<readonly RowOutcome[]> {
    const { generate, numSamples = 1 } = this.settings;
    const outcomes = generate
      ? await this.generateRows(prompts, { signal })
      : await this.scoreRows(prompts, { signal });
    const wrong = outcomes.find(({ generations }) =>
      generations !== undefined && generations.length !== numSamples
    );
    if (outcomes.length === prompts.length && wrong === undefined) return outcomes;
    throw new ValidationError(
      `The engine gave ${wrong?.generations?.length ?? outcomes.length} samples where ` +
        `${wrong === undefined ? prompts.length : numSamples} were asked for`,
    );
  }

  async #runBatch(
    calls: readonly PreparedCall[],
    signal: AbortSignal,
  ): Promise<readonly (readonly RowOutcome[])[]> {
    const all = await this.#run(calls.flatMap(({ prompts }) => prompts), signal);
    let at = 0;
    return calls.map(({ prompts }) => all.slice(at, at += prompts.length));
  }

  /** The outputs under their keys, in a new object or in the given one. */
  async #output(parts: OutputParts, into: PolicyInput | null): Promise<PolicyOutput<Mode, Given>> {
    const { settings } = this;
    const findTokenizer = () => this.tokenizer();
    const output = await keyedOutput(parts, { settings, findTokenizer, into });
    return output as PolicyOutput<Mode, Given>;
  }
}
