import type { Generation } from "../client/types.ts";
import type { PlannedRequest } from "./generate_plan.ts";

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

/** The sample of a request that was aborted before any server had it: no tokens. */
export function droppedSample({ request, body }: PlannedRequest, server: string): Generation {
  return makeGeneration({
    text: "",
    ids: new Int32Array(0),
    logProbs: body.return_logprob === true ? new Float32Array(0) : null,
    promptIds: request.inputIds === undefined ? null : Int32Array.from(request.inputIds),
    promptTokens: null,
    routedExperts: null,
    finishReason: { type: "abort", message: "Aborted by this engine", statusCode: null },
    id: request.rid,
    server,
  });
}

/**
 * The sample of an adapter: what a server calls its weights are those of the base model, and the
 * version of the policy is the adapter's name, which no other adapter ever had.
 */
export function madeBy(adapter: string | undefined, sample: Generation): Generation {
  if (adapter === undefined) return sample;
  return {
    ...sample,
    weightVersion: adapter,
    weightVersions: [{ version: adapter, start: 0, end: sample.ids.length }],
  };
}
