import { mergeSampling } from "../client/sampling_params.ts";
import type { CallOptions, Generation, GenerationDelta, SamplingInput } from "../client/types.ts";
import { ForwardingEngine } from "../collector/partial/forwarding_engine.ts";
import { ResumingEngine } from "../collector/partial/resuming_engine.ts";
import type { GenerateOptions, RLSGLangEngine } from "../engine/engine.ts";
import type { PromptList } from "../engine/prompts.ts";
import { AbortedError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { GatewayRefusal } from "./fault.ts";
import { partSeed } from "../internal/sample_seed.ts";
import { checkedLogProbs } from "../rollout/sample.ts";

/** Longest wait for what was sampled of an answer that nobody wants any more. */
const LEAVE_TIMEOUT_MS = 5_000;

/** How {@linkcode sampleAnswer} samples. */
export interface SampleAnswerOptions {
  /** Fields of the request; log-probabilities are always asked for. */
  readonly request: GenerateOptions;
  /** Most new tokens, as the request has it. */
  readonly maxNewTokens: number;
  /** Told of each step; without it the server is asked for the whole at once. */
  readonly onDelta?: ((delta: GenerationDelta) => void) | undefined;
  /** Fires when nobody wants the answer any more: what was sampled until then is given. */
  readonly leave: AbortSignal;
  /**
   * Whether an answer that a pause cuts may go on from its ids. Not one under a grammar: the server
   * would begin the grammar again there.
   */
  readonly mayResume: boolean;
  /** The time to use. */
  readonly clock: Clock;
}

/**
 * Samples an answer to the ids of a prompt. An answer that a pause cuts goes on after it, if it may;
 * else what was sampled of it is given with `finishReason` `"abort"`. One that is
 * left is aborted on the servers, and what they sampled of it is given with `finishReason` `"abort"`.
 *
 * @throws {AbortedError} It was left, and no server told what it had sampled.
 */
export async function sampleAnswer(
  engine: RLSGLangEngine,
  ids: Int32Array,
  options: SampleAnswerOptions,
): Promise<Generation> {
  const { request, maxNewTokens, onDelta, leave, mayResume, clock } = options;
  if (leave.aborted) throw new AbortedError("sampling an answer", { cause: leave.reason });
  const rid = crypto.randomUUID();
  const inner = onDelta === undefined ? engine : new StreamedEngine(engine, onDelta);
  const asking = mayResume ? new ResumingEngine(inner, { maxNewTokens, clock }) : inner;
  const ending = new AbortController();
  const answer = asking.generate({ inputIds: ids }, {
    ...request,
    returnLogProbs: true,
    rids: [rid],
    signal: ending.signal,
  }) as Promise<Generation>;
  const left = Promise.withResolvers<Generation>();
  left.promise.catch(() => {});
  const onLeave = () => {
    const told = withDeadline(
      { phase: "the rest of an answer that was left", timeoutMs: LEAVE_TIMEOUT_MS, clock },
      async (signal) => {
        await asking.abort([rid], { signal });
        return await answer;
      },
    );
    told.then(left.resolve, (error) => {
      ending.abort(error);
      left.reject(new AbortedError("sampling an answer", { cause: error }));
    });
  };
  leave.addEventListener("abort", onLeave, { once: true });
  try {
    const sample = await Promise.race([answer, left.promise]);
    checkedLogProbs(sample.logProbs, { count: sample.ids.length });
    return sample;
  } catch (error) {
    answer.catch(() => {});
    throw error;
  } finally {
    leave.removeEventListener("abort", onLeave);
  }
}

/** An engine that streams what it is asked to generate, and tells of each step. */
class StreamedEngine extends ForwardingEngine {
  readonly #onDelta: (delta: GenerationDelta) => void;

  constructor(inner: RLSGLangEngine, onDelta: (delta: GenerationDelta) => void) {
    super(inner);
    this.#onDelta = onDelta;
  }

  override async generateAll(
    { list: [prompt] }: PromptList,
    options: GenerateOptions,
  ): Promise<Generation[]> {
    let final: Generation | null = null;
    for await (const delta of this.inner.stream(prompt!, options)) {
      this.#onDelta(delta);
      final = delta.final ?? final;
    }
    if (final === null) throw new AbortedError("a stream that ended without its last step");
    return [final];
  }

  override abort(rids: readonly string[] | "all", options?: CallOptions): Promise<void> {
    return this.inner.abort(rids, options);
  }
}

/** An answer that a pause cut for good. */
export function cutShort(): GatewayRefusal {
  return new GatewayRefusal(
    "The servers were paused and cut this answer, and one under a grammar cannot go on. Ask again",
    { status: 503, reason: "paused", retryAfterS: 1 },
  );
}

/** Samples of one prompt have seeds of their own. */
export function seeded(sampling: SamplingInput, index: number): SamplingInput {
  const { samplingSeed } = sampling;
  if (index === 0 || samplingSeed === undefined) return sampling;
  return mergeSampling(sampling, { samplingSeed: partSeed(samplingSeed, index) });
}
