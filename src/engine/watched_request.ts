import { samplingIn } from "../client/request.ts";
import type { Generation, GenerationDelta } from "../client/types.ts";
import { systemClock } from "../internal/clock.ts";
import {
  beginObserved,
  type Facts,
  isObserved,
  observed,
  type Watch,
} from "../internal/observe.ts";
import { type PlannedRequest, samplesOf } from "./generate_plan.ts";

/** Sends one request as an operation that traces and metrics see. */
export function watchRequest(
  engine: object,
  planned: PlannedRequest,
  send: (facts: Facts) => Promise<Generation[]>,
): Promise<Generation[]> {
  return observed("generate", engine, factsOf(planned, false), async (facts) => {
    const samples = await send(facts);
    if (isObserved()) tellSamples(facts, samples);
    return samples;
  });
}

/** The same for a stream; what is sampled before its end is lost to it where the reader leaves. */
export async function* watchStream(
  engine: object,
  planned: PlannedRequest,
  deltas: AsyncIterable<GenerationDelta>,
): AsyncGenerator<GenerationDelta, void, undefined> {
  if (!isObserved()) return yield* deltas;
  const facts = factsOf(planned, true);
  const startedAt = systemClock.now();
  const watch = beginObserved({ name: "generate", subject: engine, facts });
  let failure: unknown;
  try {
    for await (const delta of readWithin(watch, deltas)) {
      facts.firstTokenMs ??= systemClock.now() - startedAt;
      if (delta.final !== null) tellSamples(facts, [delta.final]);
      yield delta;
    }
  } catch (error) {
    failure = error;
    throw error;
  } finally {
    // Also where the reader leaves the loop.
    watch.end(failure);
  }
}

/** Reads as part of an operation, so that what is sent for it carries its context. */
function readWithin<T>({ within }: Watch, items: AsyncIterable<T>): AsyncIterable<T> {
  if (within === undefined) return items;
  return {
    [Symbol.asyncIterator]() {
      const iterator = items[Symbol.asyncIterator]();
      return {
        next: () => within(() => iterator.next()),
        return: (value) =>
          within(async () => await iterator.return?.(value) ?? { done: true, value }),
      };
    },
  };
}

function factsOf(planned: PlannedRequest, isStream: boolean): Facts {
  if (!isObserved()) return {};
  const { max_new_tokens, temperature, top_p, sampling_seed } = samplingIn(planned.body);
  return {
    rid: planned.request.rid,
    samples: samplesOf(planned),
    isStream,
    maxNewTokens: numberOr(max_new_tokens),
    temperature: numberOr(temperature),
    topP: numberOr(top_p),
    seed: numberOr(sampling_seed),
  };
}

function tellSamples(facts: Facts, samples: readonly Generation[]): void {
  const [first] = samples;
  if (first === undefined) return;
  facts.server = first.server;
  facts.promptTokens = first.promptTokens ?? undefined;
  facts.cachedTokens = first.cachedTokens ?? undefined;
  facts.outputTokens = samples.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  facts.finishReasons = samples.map(({ finishReason }) => finishReason.type).join(",");
  facts.weightVersion = first.weightVersion ?? undefined;
  facts.id = first.id;
}

function numberOr(value: unknown): number | undefined {
  return typeof value === "number" ? value : undefined;
}
