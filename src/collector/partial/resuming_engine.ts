import {
  convertSamplingParams,
  isSamplingName,
  isUnderGrammar,
  mergeSampling,
} from "../../client/sampling_params.ts";
import type { CallOptions, Generation } from "../../client/types.ts";
import type { GenerateOptions, RLSGLangEngine } from "../../engine/engine.ts";
import type { PromptList } from "../../engine/prompts.ts";
import { StateError, TimeoutError } from "../../errors.ts";
import { type Clock, systemClock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { ForwardingEngine } from "./forwarding_engine.ts";
import { endAtStopAcross } from "./stop_across.ts";
import { spansOf, stitch } from "../../engine/stitch.ts";

/** Options of {@linkcode ResumingEngine}. */
export interface ResumingEngineOptions {
  /** Times that one sample may be resumed before it fails. Default 100. */
  readonly maxResumes?: number | undefined;
  /** The engine's own limit on new tokens, for calls that give none. Default 128. */
  readonly maxNewTokens?: number | undefined;
  /** Told about each resumption. */
  readonly onResume?: ((partial: Generation) => void) | undefined;
  /** The time that pauses use. */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  maxResumes: true,
  maxNewTokens: true,
  onResume: true,
  clock: true,
} as const satisfies OptionNames<ResumingEngineOptions>;

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 2_000;

/**
 * An engine whose samples survive a pause: one that comes back aborted is continued from its prompt
 * and the ids it has, until it ends by itself. `weightVersions` then tells which version made which
 * tokens. Samples that the caller aborts through this engine stay aborted.
 *
 * It borrows the engine beneath and does not shut it down.
 *
 * Limits: penalties count only what was made since the last resumption, and a sampling seed begins
 * again there, because the server sees the earlier ids as a prompt. A grammar would begin again in the
 * middle, so a sample under one is made anew from its prompt.
 *
 * @example
 * ```ts ignore
 * const resuming = new ResumingEngine(engine);
 * const sample = await resuming.generate("Hello", { maxNewTokens: 512 });
 * console.log(sample.weightVersions); // more than one span when a sync happened meanwhile
 * ```
 */
export class ResumingEngine extends ForwardingEngine {
  readonly #options: ResumingEngineOptions;
  readonly #clock: Clock;
  readonly #abortedRids = new Set<string>();
  #abortsOfAll = 0;

  /** Wraps an engine. */
  constructor(inner: RLSGLangEngine, options: ResumingEngineOptions = {}) {
    super(inner);
    checkOptionNames(options, OPTION_NAMES, "a ResumingEngine");
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Generates; a sample that a pause cut off is continued until it ends by itself. */
  override async generateAll(
    prompts: PromptList,
    options: GenerateOptions,
  ): Promise<Generation[]> {
    const startedAtMs = this.#clock.now();
    const abortsOfAll = this.#abortsOfAll;
    const list = await this.inner.generateAll(prompts, options);
    // Servers may name several samples of one prompt alike; those cannot be told apart by id.
    const keepsIds = new Set(list.map(({ id }) => id)).size === list.length;
    const samplesEach = list.length / prompts.list.length;
    // Further samples of a prompt have other ids than the one that was given.
    const aborted = options.rids?.map((rid) => this.#abortedRids.delete(rid)) ?? [];
    return await Promise.all(list.map((sample, i) => {
      const isWanted = abortsOfAll !== this.#abortsOfAll || this.#abortedRids.delete(sample.id) ||
        aborted[Math.floor(i * aborted.length / list.length)] === true;
      if (isWanted || sample.finishReason.type !== "abort") return sample;
      const prompt = prompts.list[Math.floor(i / samplesEach)];
      const text = typeof prompt === "string" ? prompt : undefined;
      return this.#complete(sample, { text, call: options, startedAtMs, abortsOfAll, keepsIds });
    }));
  }

  /** Aborts requests; their samples stay aborted. */
  override async abort(rids: readonly string[] | "all", options?: CallOptions): Promise<void> {
    if (rids === "all") this.#abortsOfAll++;
    else for (const rid of rids) this.#abortedRids.add(rid);
    await super.abort(rids, options);
  }

  async #complete(partial: Generation, context: ResumeContext): Promise<Generation> {
    const { text, call } = context;
    const { maxResumes = 100 } = this.#options;
    const wire = this.#samplingOf(call);
    const promptIds = partial.promptIds ??
      await this.inner.tokenize(text ?? "", { signal: call.signal });
    let sample: Generation = { ...partial, promptIds, weightVersions: spansOf(partial) };
    let idleRounds = 0;
    for (let round = 0; sample.finishReason.type === "abort"; round++) {
      if (round === maxResumes) {
        throw new StateError(
          `A sample was aborted ${maxResumes + 1} times, the last time by "` +
            `${sample.finishReason.message}"; raise maxResumes, or find who aborts it`,
        );
      }
      const kept = wire.isUnderGrammar ? begunAnew(sample) : sample;
      const left = wire.maxNewTokens - kept.ids.length;
      if (left <= 0) {
        return { ...kept, finishReason: { type: "length", length: wire.maxNewTokens } };
      }
      this.#options.onResume?.(kept);
      const seam = kept.ids.length;
      const next = await this.#continue(kept, { left, wire, context });
      sample = await this.#join(kept, next, { wire, call, seam });
      const isWanted = context.abortsOfAll !== this.#abortsOfAll ||
        this.#abortedRids.delete(sample.id);
      if (isWanted) return sample;
      idleRounds = sample.ids.length > seam ? 0 : idleRounds + 1;
      if (sample.finishReason.type !== "abort" || idleRounds === 0) continue;
      const pauseMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (idleRounds - 1));
      await sleep(pauseMs, { signal: call.signal, clock: this.#clock, phase: "pause to resume" });
    }
    return sample;
  }

  async #continue(
    sample: Generation,
    { left, wire, context }: { left: number; wire: EffectiveSampling; context: ResumeContext },
  ): Promise<Generation> {
    const { call, startedAtMs, keepsIds } = context;
    const { samplingParams, rids: _rids, onProgress: _onProgress, timeoutMs, ...options } = call;
    const spentMs = this.#clock.now() - startedAtMs;
    if (timeoutMs !== undefined && spentMs >= timeoutMs) {
      throw new TimeoutError({
        phase: "generate",
        timeoutMs,
        lastHeard: `aborted with ${sample.ids.length} tokens`,
      });
    }
    const [next] = await this.inner.generate(
      { inputIds: Int32Array.from([...sample.promptIds!, ...sample.ids]) },
      {
        ...options,
        ...samplingParams === undefined ? {} : { samplingParams },
        ...timeoutMs === undefined ? {} : { timeoutMs: timeoutMs - spentMs },
        // The same id, so that who wants to abort the sample can do so at any time.
        ...keepsIds ? { rids: [sample.id] } : {},
        n: 1,
        maxNewTokens: left,
        minNewTokens: Math.max(0, wire.minNewTokens - sample.ids.length),
        logProbStartLen: -1,
      },
    );
    return next!;
  }

  async #join(
    first: Generation,
    second: Generation,
    { wire, call, seam }: { wire: EffectiveSampling; call: GenerateOptions; seam: number },
  ): Promise<Generation> {
    const joined = stitch(first, second);
    if (joined.text === null || second.ids.length === 0 || seam === 0) return joined;
    const detokenize = (ids: Int32Array) =>
      this.inner.detokenize(ids, {
        signal: call.signal,
        skipSpecialTokens: wire.skipSpecialTokens,
      });
    // A character may lie across the seam; both halves were written as replacement characters.
    const isBroken = first.text!.endsWith("\ufffd") || second.text!.startsWith("\ufffd");
    const text = isBroken ? withoutStop(await detokenize(joined.ids), joined, wire) : joined.text;
    return await endAtStopAcross({ ...joined, text }, { ...wire, seam, detokenize });
  }

  #samplingOf(options: GenerateOptions): EffectiveSampling {
    const direct = Object.fromEntries(
      Object.entries(options).filter(([name, value]) =>
        isSamplingName(name) && value !== undefined
      ),
    );
    const merged = mergeSampling(options.samplingParams ?? {}, direct);
    const { samplingParams: wire } = convertSamplingParams(merged, {
      defaults: { maxNewTokens: this.#options.maxNewTokens ?? 128 },
    });
    const stops = wire.stop as string | readonly string[] | undefined;
    return {
      maxNewTokens: wire.max_new_tokens as number,
      minNewTokens: (wire.min_new_tokens as number | undefined) ?? 0,
      stops: stops === undefined ? [] : [stops].flat(),
      keepsStop: wire.no_stop_trim === true,
      skipSpecialTokens: wire.skip_special_tokens !== false,
      isUnderGrammar: isUnderGrammar(wire),
    };
  }
}

/** What of a call's sampling parameters matters for resuming. */
interface EffectiveSampling {
  readonly maxNewTokens: number;
  readonly minNewTokens: number;
  readonly stops: readonly string[];
  readonly keepsStop: boolean;
  readonly skipSpecialTokens: boolean;
  readonly isUnderGrammar: boolean;
}

interface ResumeContext {
  readonly text: string | undefined;
  readonly call: GenerateOptions;
  readonly startedAtMs: number;
  readonly abortsOfAll: number;
  /** Whether every sample has an id of its own. */
  readonly keepsIds: boolean;
}

/** A sample of which nothing is kept. */
function begunAnew(sample: Generation): Generation {
  const none = <T>(list: readonly T[] | null) => list === null ? null : [];
  return {
    ...sample,
    text: sample.text === null ? null : "",
    ids: new Int32Array(),
    logProbs: sample.logProbs === null ? null : new Float32Array(),
    topLogProbs: none(sample.topLogProbs),
    tokenIdsLogProbs: none(sample.tokenIdsLogProbs),
    routedExperts: sample.routedExperts === null || sample.routedExperts === undefined
      ? sample.routedExperts
      : { ...sample.routedExperts, tokens: 0, data: new Int32Array() },
    weightVersions: [],
  };
}

function withoutStop(text: string, sample: Generation, wire: EffectiveSampling): string {
  const { finishReason } = sample;
  if (wire.keepsStop || finishReason.type !== "stop") return text;
  if (typeof finishReason.matched !== "string") return text;
  const at = text.lastIndexOf(finishReason.matched);
  return at < 0 ? text : text.slice(0, at);
}
