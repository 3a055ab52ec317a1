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

/** Who generates, as traces and metrics know it. */
export interface WatchedModel {
  readonly engine: object;
  /** The model as its servers name it; `undefined` while there is none. */
  readonly model: string | undefined;
}

/** Sends one request as an operation that traces and metrics see. */
export function watchRequest(
  { engine, model }: WatchedModel,
  planned: PlannedRequest,
  send: (facts: Facts) => Promise<Generation[]>,
): Promise<Generation[]> {
  return observed("generate", engine, factsOf(planned, model, false), async (facts) => {
    const samples = await send(facts);
    if (isObserved()) tellSamples(facts, samples);
    return samples;
  });
}

/** The same for a stream; what is sampled before its end is lost to it where the reader leaves. */
export async function* watchStream(
  { engine, model }: WatchedModel,
  planned: PlannedRequest,
  open: (facts: Facts) => AsyncIterable<GenerationDelta>,
): AsyncGenerator<GenerationDelta, void, undefined> {
  if (!isObserved()) return yield* open({});
  const facts = factsOf(planned, model, true);
  const startedAt = systemClock.now();
  const watch = beginObserved({ name: "generate", subject: engine, facts });
  let failure: unknown;
  try {
    for await (const delta of readWithin(watch, open(facts))) {
      // From when it was sent; the wait for its turn is told apart.
      facts.firstTokenSeconds ??= (systemClock.now() - startedAt - Number(facts.queuedMs ?? 0)) /
        1000;
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

function factsOf(
  planned: PlannedRequest,
  model: string | undefined,
  isStream: boolean,
): Facts {
  if (!isObserved()) return {};
  const { request: { rid }, body } = planned;
  const sampling = samplingIn(body);
  const samples = samplesOf(planned);
  return {
    model: modelName(model, body.lora_path),
    rid,
    // The conventions leave out what is as ever.
    samples: samples === 1 ? undefined : samples,
    isStream: isStream || undefined,
    maxNewTokens: numberOr(sampling.max_new_tokens),
    temperature: numberOr(sampling.temperature),
    topP: numberOr(sampling.top_p),
    topK: numberOr(sampling.top_k),
    frequencyPenalty: numberOr(sampling.frequency_penalty),
    presencePenalty: numberOr(sampling.presence_penalty),
    seed: numberOr(sampling.sampling_seed),
  };
}

/** With an adapter as SGLang names the two together. */
function modelName(model: string | undefined, adapter: unknown): string | undefined {
  return typeof adapter === "string" && model !== undefined ? `${model}:${adapter}` : model;
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
