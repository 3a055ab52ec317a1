import type { Generation } from "../client/types.ts";

/** What an engine of one's own knows of a sample at least. */
export type KnownGeneration = Pick<Generation, "text" | "ids"> & Partial<Generation>;

/** A sample from what is known of it, for an engine of one's own; what is not known is `null`. */
export function makeGeneration(known: KnownGeneration): Generation {
  return {
    logProbs: null,
    promptIds: null,
    promptLogProbs: null,
    topLogProbs: null,
    promptTopLogProbs: null,
    tokenIdsLogProbs: null,
    promptTokenIdsLogProbs: null,
    finishReason: { type: "stop", matched: null },
    weightVersion: null,
    weightVersions: null,
    promptTokens: known.promptIds?.length ?? null,
    completionTokens: known.ids.length,
    cachedTokens: null,
    id: crypto.randomUUID(),
    server: "",
    latencyMs: 0,
    serverLatencyMs: null,
    meta: {},
    ...known,
  };
}
