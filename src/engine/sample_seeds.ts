import { buildRequest, ownSample, samplingIn } from "../client/request.ts";
import { mergeSampling } from "../client/sampling_params.ts";
import { partSeed, randomSeed, sampleSeed } from "../internal/sample_seed.ts";
import type { PlanContext, PlannedRequest } from "./generate_plan.ts";

/**
 * Requests for deterministic servers, where samples of one prompt with one seed are the same tokens:
 * each sample becomes a request with a seed of its own, derived from the given seed or a random one
 * and from its number among the samples of its prompt in this call. So it does not matter which other
 * prompts a call has. Elsewhere the requests stay as they are.
 *
 * @param sample A request of the call.
 * @returns Makes the requests of one, asked once for each and in order; `undefined` for elsewhere.
 */
export function seedsFor(
  sample: PlannedRequest,
  context: PlanContext,
): ((planned: PlannedRequest) => PlannedRequest) | undefined {
  if (context.deterministic === "none") return undefined;
  const { seed, isGiven } = seedOf(sample, context);
  const counts = new Map<string, number>();
  return (planned) => {
    const sampling = samplingIn(planned.body);
    // Beams are not sampled, and their number is n.
    if ("beam_width" in sampling || "beam_width" in planned.body) return planned;
    const { n = 1 } = sampling as { readonly n?: number };
    const { text, inputIds } = planned.request;
    const prompt = text ?? Array.from(inputIds!).join();
    const first = counts.get(prompt) ?? 0;
    counts.set(prompt, first + n);
    const one = (sample: number) =>
      seeded(planned, {
        // Not built on the given one: servers take ids by prefix, and would abort all with the first.
        rid: sample === 0 ? planned.request.rid : crypto.randomUUID(),
        seed: sampleSeed(seed, first + sample),
        // Where a seed was given, a server that would ignore it refuses, as for one sample.
        mayGoWithout: !isGiven && context.deterministic === "some",
      });
    if (n === 1) return one(0);
    const parts = Array.from(
      { length: n },
      (_, sample) => ({ ...one(sample), partOf: planned.request.rid }),
    );
    return { ...planned, parts };
  };
}

/** The seed of a call: all its requests have the same sampling parameters. */
function seedOf(
  planned: PlannedRequest,
  { samplingDefaults, nextCall }: PlanContext,
): { seed: number; isGiven: boolean } {
  const given = samplingIn(planned.body).sampling_seed;
  if (typeof given !== "number") return { seed: randomSeed(), isGiven: false };
  // The seed of the defaults is for all calls, which must not all give the same.
  const isDefault = samplingDefaults !== undefined &&
    !("sampling_seed" in samplingIn(buildRequest(planned.request).body));
  return { seed: isDefault ? partSeed(given, nextCall()) : given, isGiven: true };
}

function seeded(
  { request }: PlannedRequest,
  { rid, seed, mayGoWithout }: {
    readonly rid: string;
    readonly seed: number;
    readonly mayGoWithout: boolean;
  },
): PlannedRequest {
  const { samplingParams = {} } = request;
  const unseeded = mayGoWithout
    ? { ...request, rid, samplingParams: mergeSampling(samplingParams, { n: 1 }) }
    : undefined;
  return { ...ownSample(request, { rid, seed }), unseeded };
}
