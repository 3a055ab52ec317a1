import type { Generation } from "../client/types.ts";
import type { PlannedRequest } from "./generate_plan.ts";

/** The sample of a request that was aborted before any server had it: no tokens. */
export function droppedSample({ request, body }: PlannedRequest, server: string): Generation {
  return {
    text: "",
    ids: new Int32Array(0),
    logProbs: body.return_logprob === true ? new Float32Array(0) : null,
    promptIds: request.inputIds === undefined ? null : Int32Array.from(request.inputIds),
    promptLogProbs: null,
    topLogProbs: null,
    promptTopLogProbs: null,
    tokenIdsLogProbs: null,
    promptTokenIdsLogProbs: null,
    routedExperts: null,
    finishReason: { type: "abort", message: "Aborted by this engine", statusCode: null },
    weightVersion: null,
    weightVersions: null,
    promptTokens: null,
    completionTokens: 0,
    cachedTokens: null,
    id: request.rid,
    server,
    latencyMs: 0,
    serverLatencyMs: null,
    meta: {},
  };
}
