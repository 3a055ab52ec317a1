import { joinRoutedExperts } from "../client/routed_experts.ts";
import type { Generation, VersionSpan } from "../client/types.ts";

/**
 * Two parts of one answer as one: the second was generated with the prompt and the ids of the first
 * as its prompt. The text is joined as it is; see `joinedText` for a text without broken characters.
 */
export function stitch(first: Generation, second: Generation): Generation {
  const offset = first.ids.length;
  return {
    ...second,
    text: first.text === null || second.text === null ? null : first.text + second.text,
    ids: Int32Array.from([...first.ids, ...second.ids]),
    logProbs: first.logProbs === null || second.logProbs === null
      ? null
      : Float32Array.from([...first.logProbs, ...second.logProbs]),
    promptIds: first.promptIds,
    promptLogProbs: first.promptLogProbs,
    topLogProbs: joined(first.topLogProbs, second.topLogProbs),
    promptTopLogProbs: first.promptTopLogProbs,
    tokenIdsLogProbs: joined(first.tokenIdsLogProbs, second.tokenIdsLogProbs),
    promptTokenIdsLogProbs: first.promptTokenIdsLogProbs,
    routedExperts: joinRoutedExperts(first.routedExperts, second.routedExperts),
    weightVersions: joinedSpans(first, second),
    promptTokens: first.promptTokens ?? first.promptIds?.length ?? null,
    completionTokens: offset + second.ids.length,
    finishReason: second.finishReason.type === "length"
      ? { type: "length", length: offset + second.ids.length }
      : second.finishReason,
    cachedTokens: first.cachedTokens,
    latencyMs: first.latencyMs + second.latencyMs,
    serverLatencyMs: first.serverLatencyMs === null || second.serverLatencyMs === null
      ? null
      : first.serverLatencyMs + second.serverLatencyMs,
  };
}

/** The versions of a sample's tokens; one span when the server names only the last. */
export function spansOf(sample: Generation): readonly VersionSpan[] | null {
  if (sample.weightVersions !== null) return sample.weightVersions;
  if (sample.ids.length === 0) return [];
  if (sample.weightVersion === null) return null;
  return [{ version: sample.weightVersion, start: 0, end: sample.ids.length }];
}

function joinedSpans(first: Generation, second: Generation): readonly VersionSpan[] | null {
  const before = spansOf(first);
  const after = spansOf(second);
  if (before === null || after === null) return null;
  const spans = before.map((span) => ({ ...span }));
  for (const { version, start, end } of after) {
    const last = spans.at(-1);
    const offset = first.ids.length;
    if (last?.version === version && last.end === start + offset) last.end = end + offset;
    else spans.push({ version, start: start + offset, end: end + offset });
  }
  return spans;
}

function joined<T>(first: readonly T[] | null, second: readonly T[] | null): readonly T[] | null {
  if (first === null && second === null) return null;
  return [...first ?? [], ...second ?? []];
}
