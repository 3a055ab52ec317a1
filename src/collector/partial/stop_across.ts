import { cutRoutedExperts } from "../../client/routed_experts.ts";
import type { Generation } from "../../client/types.ts";

/** Text of ids, as the server would write it. */
export type Detokenize = (ids: Int32Array) => Promise<string>;

/** How a text ends where a stop string was found. */
export interface StopOptions {
  /** The stop strings of the call. */
  readonly stops: readonly string[];
  /** Whether the stop string stays in the text. */
  readonly keepsStop: boolean;
}

/**
 * Ends a stitched answer at a stop string that lies across the seam. The server looks for stop
 * strings only in what one request made, so it cannot see one that began before the seam.
 */
export async function endAtStopAcross(
  sample: Generation,
  options: StopOptions & { seam: number; detokenize: Detokenize },
): Promise<Generation> {
  const { stops, keepsStop, seam, detokenize } = options;
  if (sample.text === null || stops.length === 0) return sample;
  const found = await earliestStop(sample, options);
  if (found === null) return sample;
  // The shortest run of ids whose text has the stop string.
  let low = seam;
  let high = sample.ids.length;
  while (low + 1 < high) {
    const middle = (low + high) >> 1;
    const text = await detokenize(sample.ids.subarray(0, middle));
    if (text.includes(found.stop)) high = middle;
    else low = middle;
  }
  const end = found.at + (keepsStop ? found.stop.length : 0);
  return {
    ...sample,
    text: sample.text.slice(0, end),
    ids: sample.ids.slice(0, high),
    logProbs: sample.logProbs?.slice(0, high) ?? null,
    topLogProbs: sample.topLogProbs?.slice(0, high) ?? null,
    tokenIdsLogProbs: sample.tokenIdsLogProbs?.slice(0, high) ?? null,
    weightVersions: sample.weightVersions
      ?.filter((span) => span.start < high)
      .map((span) => ({ ...span, end: Math.min(span.end, high) })) ?? null,
    routedExperts: cutRoutedExperts(sample.routedExperts, sample.ids.length - high),
    completionTokens: high,
    finishReason: { type: "stop", matched: found.stop },
  };
}

/** The first stop string in the text that begins before the seam. */
async function earliestStop(
  sample: Generation,
  { stops, seam, detokenize }: StopOptions & { seam: number; detokenize: Detokenize },
): Promise<{ stop: string; at: number } | null> {
  const hits = stops
    .map((stop) => ({ stop, at: (sample.text ?? "").indexOf(stop) }))
    .filter((hit) => hit.at >= 0)
    .sort((a, b) => a.at - b.at);
  const first = hits[0];
  if (first === undefined) return null;
  const before = await detokenize(sample.ids.subarray(0, seam));
  return first.at < before.length ? first : null;
}
