import { ValidationError } from "../errors.ts";
import type { LLMWrapperBase, PolicyOutput } from "../policy/wrapper/base.ts";
import type { LLMWrapperOptions } from "../policy/wrapper/options.ts";
import { SGLangWrapper } from "../policy/wrapper/sglang_wrapper.ts";
import { ResumingEngine } from "./partial/resuming_engine.ts";
import type { CollectorPolicy, PolicyRequest, PolicySample } from "./policy.ts";

/** What happens to a generation that a pause aborted. */
export type PartialRollouts = "resume" | "keep";

/** The turn before, as the wrapper answered it. */
interface TurnState {
  readonly output: PolicyOutput;
  /** Messages of the dialog including the answer. */
  readonly length: number;
}

/** What the collector reads one sample with, whatever the wrapper's own settings are. */
const OVERRIDES: LLMWrapperOptions = {
  inplace: false,
  padOutput: undefined,
  inputKey: undefined,
  historyKey: undefined,
  textKey: undefined,
  tokensKey: undefined,
  masksKey: undefined,
  logProbsKey: undefined,
  numSamples: undefined,
};

/**
 * A wrapper as the collector uses it: one conversation a call, the ids of earlier turns kept exactly,
 * and generations that a pause cut continued.
 */
export class WrapperPolicy implements CollectorPolicy {
  readonly #wrapper: LLMWrapperBase;
  readonly #partialRollouts: PartialRollouts;
  readonly #byTools = new Map<string, Promise<LLMWrapperBase>>();

  /** Throws a {@linkcode ValidationError} for a wrapper that does not answer conversations. */
  constructor(wrapper: LLMWrapperBase, options: { partialRollouts: PartialRollouts }) {
    const { inputMode = "history", generate = true, numSamples = 1 } = wrapper.options;
    if (inputMode !== "history" || !generate) {
      throw new ValidationError(
        'Cannot collect with this wrapper: it needs inputMode "history" and generate true, not ' +
          `"${inputMode}" and ${generate}`,
      );
    }
    if (numSamples !== 1) {
      throw new ValidationError(
        `Cannot collect with numSamples ${numSamples}: a dialog goes on with one answer. Run the ` +
          "prompt as several dialogs instead",
      );
    }
    this.#wrapper = wrapper;
    this.#partialRollouts = options.partialRollouts;
  }

  /** The engine behind the wrapper. */
  get model(): unknown {
    return this.#wrapper.model;
  }

  /** Tells the wrapper. */
  registerCollector(collector: object): void {
    this.#wrapper.registerCollector(collector);
  }

  /** The servers' weight versions. */
  async weightVersions({ signal }: { signal: AbortSignal }): Promise<readonly string[]> {
    if (!(this.#wrapper instanceof SGLangWrapper)) return [];
    const engine = await this.#wrapper.engine();
    const infos = await engine.modelInfo({ signal });
    return infos.map((info) => info.weightVersion).filter((version) => version !== null);
  }

  /** Answers one turn. */
  async call(request: PolicyRequest, options: { signal: AbortSignal }): Promise<PolicySample> {
    const { messages, tools } = request;
    const wrapper = await this.#forTools(tools);
    const before = request.state as TurnState | undefined;
    const input = before === undefined
      ? { history: messages }
      : await wrapper.nextTurn(before.output, messages.slice(before.length), options);
    const output = await wrapper.call(input, options);
    const { generation } = output.samples[0]!;
    const { ids, logProbs, finishReason, weightVersion, weightVersions } = generation;
    return {
      message: output.history!.response!.chats[0]![0]!,
      promptIds: output.tokens.get("prompt")[0]!,
      ids,
      logProbs: output.logProbs === undefined ? null : logProbs,
      finishReason,
      weightVersion,
      weightVersions,
      state: { output, length: messages.length + 1 } satisfies TurnState,
    };
  }

  /** The wrapper with these tools in its chat template. */
  #forTools(tools: PolicyRequest["tools"]): Promise<LLMWrapperBase> {
    const key = JSON.stringify(tools ?? null);
    const known = this.#byTools.get(key);
    if (known !== undefined) return known;
    const made = this.#make(tools);
    this.#byTools.set(key, made);
    // A server that is not there yet may be at the next call.
    made.catch(() => this.#byTools.delete(key));
    return made;
  }

  async #make(tools: PolicyRequest["tools"]): Promise<LLMWrapperBase> {
    const { options } = this.#wrapper;
    const overrides = tools === undefined
      ? OVERRIDES
      : { ...OVERRIDES, tokenizerKwargs: { ...options.tokenizerKwargs, tools } };
    const wrapper = this.#wrapper;
    if (this.#partialRollouts === "keep" || !(wrapper instanceof SGLangWrapper)) {
      return wrapper.getNewVersion(overrides);
    }
    const engine = new ResumingEngine(await wrapper.engine());
    const tokenizer = await wrapper.tokenizer();
    return new SGLangWrapper(engine, { ...options, ...overrides, tokenizer });
  }
}
