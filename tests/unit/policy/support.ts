/** An engine of ten lines and the tokenizer of the goldens, for tests of the policy. */
import type { FinishReason, Generation } from "../../../src/client/types.ts";
import {
  type GenerateOptions,
  type PromptFields,
  type PromptList,
  RLSGLangEngine,
} from "../../../src/engine/mod.ts";
import { type InputMode, LocalTokenizer, SGLangWrapper } from "../../../src/policy/mod.ts";
import type { LLMWrapperOptions, Tokenizer } from "../../../src/policy/mod.ts";

const fixtures = new URL("../../fixtures/policy/", import.meta.url);

/** The tokenizer of the goldens: one token a byte, and three special ones. */
export const bytes = await LocalTokenizer.fromFolder(new URL("byte_level", fixtures).pathname);

/** The same tokenizer under the name of a model. */
export function named(name: string, changes: Partial<Tokenizer> = {}): Tokenizer {
  return {
    name,
    chatTemplate: bytes.chatTemplate,
    specialTokens: bytes.specialTokens,
    idOf: (token) => bytes.idOf(token),
    encode: (text, options) => bytes.encode(text, options),
    decode: (ids, options) => bytes.decode(ids, options),
    ...changes,
  };
}

/** The tokenizer that the goldens were recorded with. */
export const qwenTiny = named("qwen-tiny");

/** What TorchRL printed for a case of the goldens. */
export async function golden(file: "wrapper" | "history", name: string): Promise<string> {
  const text = await Deno.readTextFile(new URL(`torchrl_${file}.golden.txt`, fixtures));
  const start = text.indexOf(`## ${name} -> `);
  if (start < 0) throw new Error(`There is no golden "${name}"`);
  const from = start + `## ${name} -> `.length;
  const end = text.indexOf("\n## ", from);
  return text.slice(from, end < 0 ? undefined : end);
}

/** A Python string literal without quotes in it. */
export function pythonText(literal: string): string {
  return literal.replaceAll("\\n", "\n").replaceAll("\\\\", "\\");
}

/** One call of the engine. */
export interface SeenCall {
  readonly prompts: PromptFields;
  readonly options: GenerateOptions;
}

/** How a {@linkcode FakeEngine} answers. */
export interface FakeAnswers {
  /** Changes the answer for a prompt. */
  readonly change?: (generation: Generation, index: number) => Partial<Generation>;
  /** Runs before the answers; may wait or throw. */
  readonly before?: (call: SeenCall) => void | Promise<void>;
  /** Looks at the ids of a prompt; may throw what a server would refuse it with. */
  readonly check?: (ids: Int32Array, options: GenerateOptions) => void;
  /** The sampled ids. Default those of the goldens' mock server. */
  readonly sample?: (promptText: string, index: number) => Int32Array;
  /** Whether the server returns prompt ids. Default true. */
  readonly returnsPromptIds?: boolean;
}

/** Answers as the goldens' mock server: the first 2 to 4 letters of "yes!!". */
export class FakeEngine extends RLSGLangEngine {
  readonly url = "http://fake";
  readonly workers = [{ url: "http://fake", tpSize: 1 }];
  /** The rounds: prompts that were sent at once. */
  readonly calls: SeenCall[] = [];
  readonly #answers: FakeAnswers;

  constructor(answers: FakeAnswers = {}) {
    super();
    this.#answers = answers;
  }

  #round: { prompts: PromptFields; options: GenerateOptions } | null = null;

  /** The prompts of the last round as ids. */
  get lastIds(): Int32Array[] {
    return this.calls.at(-1)!.prompts.inputIds as Int32Array[];
  }

  override async generateAll({ list: prompts }: PromptList, options: GenerateOptions) {
    options.signal?.throwIfAborted();
    const list = prompts as readonly string[] | readonly Int32Array[];
    const fields = typeof list[0] === "string" ? { text: list } : { inputIds: list };
    const { call, first } = this.#seen(fields as PromptFields, options);
    await this.#answers.before?.(call);
    for (const item of list) {
      const ids = typeof item === "string" ? bytes.encode(item) : item;
      this.#answers.check?.(ids, options);
    }
    const n = options.samplingParams?.n ?? 1;
    return list.flatMap((prompt, index) =>
      Array.from({ length: n }, () => this.#generation(prompt, first + index, options))
    );
  }

  /** Rows come one by one; those that come at once, with one signal, are one round. */
  #seen(prompts: PromptFields, options: GenerateOptions): { call: SeenCall; first: number } {
    const round = this.#round;
    if (round === null || round.options.signal !== options.signal) {
      const begun = this.#round = { prompts: { ...prompts }, options };
      this.calls.push(begun);
      queueMicrotask(() => this.#round = null);
      return { call: begun, first: 0 };
    }
    const key = prompts.text === undefined ? "inputIds" : "text";
    const before = (round.prompts[key] ?? []) as unknown[];
    const added = prompts[key] as unknown as unknown[];
    round.prompts = { ...round.prompts, [key]: [...before, ...added] };
    const first = (round.prompts.text?.length ?? 0) + (round.prompts.inputIds?.length ?? 0) -
      added.length;
    return { call: round, first };
  }

  #generation(prompt: string | Int32Array, index: number, options: GenerateOptions): Generation {
    const text = typeof prompt === "string" ? prompt : bytes.decode(prompt);
    const promptIds = typeof prompt === "string"
      ? options.returnPromptIds && this.#answers.returnsPromptIds !== false
        ? bytes.encode(prompt)
        : null
      : Int32Array.from(prompt);
    const isScore = options.samplingParams?.maxNewTokens === 0;
    const ids = isScore
      ? new Int32Array()
      : this.#answers.sample?.(text, index) ?? bytes.encode("yes!!".slice(0, 2 + text.length % 3));
    const lps = Float32Array.from(ids, (_, i) => -0.5 * (i + 1));
    const finishReason: FinishReason = { type: "stop", matched: null };
    const generation: Generation = {
      text: bytes.decode(ids, { skipSpecialTokens: true }),
      ids,
      logProbs: options.returnLogProbs ? lps : null,
      promptIds,
      promptLogProbs: options.logProbStartLen === 0 && promptIds
        ? Float32Array.from(promptIds, (_, i) => i === 0 ? NaN : -0.25 * i)
        : null,
      topLogProbs: null,
      promptTopLogProbs: null,
      tokenIdsLogProbs: null,
      promptTokenIdsLogProbs: null,
      finishReason,
      weightVersion: "7",
      weightVersions: null,
      promptTokens: promptIds?.length ?? null,
      completionTokens: ids.length,
      cachedTokens: 0,
      id: `${this.calls.length}-${index}`,
      server: this.url,
      latencyMs: 1,
      serverLatencyMs: null,
      meta: {},
    };
    return { ...generation, ...this.#answers.change?.(generation, index) };
  }

  override tokenize(text: string): Promise<Int32Array> {
    return Promise.resolve(bytes.encode(text));
  }

  override detokenize(ids: ArrayLike<number>): Promise<string> {
    return Promise.resolve(bytes.decode(ids));
  }

  override modelInfo(): Promise<never[]> {
    return Promise.resolve([]);
  }

  override stream = unused;
  override parseFunctionCall = unused;
  override separateReasoning = unused;
  override abort = unused;
  override pause = unused;
  override resume = unused;
  override flushCache = unused;
  override health = unused;
  override load = unused;
  override serverInfo = unused;
  override getModelMetadata = unused;
  override getTpSize = unused;
  override getDpSize = unused;
  override shutdown(): Promise<void> {
    return Promise.resolve();
  }
}

function unused(): never {
  throw new Error("The wrapper must not call this");
}

/** A wrapper on a fake engine with the goldens' tokenizer. */
export function wrap(
  options: LLMWrapperOptions = {},
  answers: FakeAnswers = {},
): { wrapper: SGLangWrapper<InputMode>; engine: FakeEngine } {
  const engine = new FakeEngine(answers);
  const wrapper = new SGLangWrapper(engine, { tokenizer: qwenTiny, ...options });
  return { wrapper: wrapper as SGLangWrapper<InputMode>, engine };
}

/** Rows as plain lists. */
export function lists(rows: readonly ArrayLike<number>[] | null | undefined): number[][] {
  return (rows ?? []).map((row) => Array.from(row));
}
