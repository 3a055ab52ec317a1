import { FleetEngine } from "../engine/mod.ts";
import { ValidationError } from "../errors.ts";
import { partSeed } from "../internal/sample_seed.ts";
import { type AnyLLMWrapper, LLMWrapperBase } from "../policy/wrapper/base.ts";
import type { LLMWrapperOptions } from "../policy/wrapper/options.ts";
import { SGLangWrapper } from "../policy/wrapper/sglang_wrapper.ts";
import { prepareTurn, sampleTurn, type Turn, type TurnPrompt } from "../rollout/turn.ts";
import type { PolicySource } from "./options.ts";
import { ResumingEngine } from "./partial/resuming_engine.ts";
import type { CollectorPolicy, PolicyRequest, PolicySample, PreparedTurn } from "./policy.ts";

/** What happens to a generation that a pause aborted. */
export type PartialRollouts = "resume" | "keep";

/** One answer a call. */
const OVERRIDES: LLMWrapperOptions = { inplace: false, numSamples: undefined };

/**
 * A wrapper as the collector uses it: one conversation a call, the ids of earlier turns kept exactly,
 * and generations that a pause cut continued.
 */
export class WrapperPolicy implements CollectorPolicy {
  readonly #wrapper: AnyLLMWrapper;
  readonly #partialRollouts: PartialRollouts;
  readonly #byTools = new Map<string, Promise<AnyLLMWrapper>>();

  /** @throws {ValidationError} For a wrapper that does not answer conversations. */
  constructor(wrapper: AnyLLMWrapper, options: { partialRollouts: PartialRollouts }) {
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

  /** The servers' weight versions; who is seen to have older ones than the others serves no more. */
  async weightVersions({ signal }: { signal: AbortSignal }): Promise<readonly string[]> {
    if (!(this.#wrapper instanceof SGLangWrapper)) return [];
    const engine = await this.#wrapper.engine();
    const infos = await engine.modelInfo({ signal });
    const names = infos.map((info) => info.weightVersion).filter((version) => version !== null);
    const isMixed = new Set(names).size > 1;
    if (isMixed && engine instanceof FleetEngine) await engine.refreshWorkers({ signal });
    return names;
  }

  /** Prepares a turn, and tells whether the context has room for its answer. */
  async prepare(request: PolicyRequest, options: { signal: AbortSignal }): Promise<PreparedTurn> {
    const wrapper = await this.#forTools(request.tools);
    const [prepared, limit] = await Promise.all([
      this.#promptOf(request, { wrapper, ...options }),
      wrapper.promptLimit(options),
    ]);
    return { prepared, fits: prepared.ids.length <= limit };
  }

  /** Answers one turn. */
  async call(request: PolicyRequest, options: { signal: AbortSignal }): Promise<PolicySample> {
    const wrapper = await this.#forTools(request.tools);
    const prompt = request.prepared as TurnPrompt | undefined ??
      await this.#promptOf(request, { wrapper, ...options });
    const turn = await sampleTurn(prompt, wrapper.sampler(seedOf(request, wrapper)), options);
    return { ...turn.sample, message: turn.message, turn, state: turn };
  }

  async #promptOf(
    { messages, state }: PolicyRequest,
    { wrapper, signal }: { wrapper: AnyLLMWrapper; signal: AbortSignal },
  ): Promise<TurnPrompt> {
    const model = await wrapper.chatModel({ signal });
    return await prepareTurn(model, messages, { parent: state as Turn | undefined, signal });
  }

  /** The wrapper with these tools in its chat template. */
  #forTools(tools: PolicyRequest["tools"]): Promise<AnyLLMWrapper> {
    const key = JSON.stringify(tools ?? null);
    const known = this.#byTools.get(key);
    if (known !== undefined) return known;
    const made = this.#make(tools);
    this.#byTools.set(key, made);
    // A server that is not there yet may be at the next call.
    made.catch(() => this.#byTools.delete(key));
    return made;
  }

  async #make(tools: PolicyRequest["tools"]): Promise<AnyLLMWrapper> {
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

/**
 * Each turn of each dialog has a seed of its own: members of a group have one prompt and would all
 * get the same answer from a deterministic server. The numbers are the same in each run.
 */
function seedOf(
  { dialog, turn }: PolicyRequest,
  { samplingSeed: seed }: AnyLLMWrapper,
): { readonly samplingSeed: number | undefined } {
  if (seed === undefined) return { samplingSeed: undefined };
  // From 1, so that turn 1 of dialog 0 is not turn 0 of dialog 1.
  return { samplingSeed: partSeed(partSeed(seed, dialog + 1), turn + 1) };
}

/** Makes the policy when a factory is given, and tells it about its collector. */
export function bindPolicy(
  source: PolicySource,
  options: { collector: object; partialRollouts: PartialRollouts },
): CollectorPolicy {
  const made = typeof source === "function" ? source() : source;
  const policy = made instanceof LLMWrapperBase ? new WrapperPolicy(made, options) : made;
  if (typeof policy?.call !== "function") {
    throw new ValidationError(
      "Cannot make an LLMCollector: the policy has no call(); give an SGLangWrapper or an object " +
        "with call(request, { signal })",
    );
  }
  policy.registerCollector?.(options.collector);
  return policy;
}
