/** Which endpoint answers what. */
import type { EmbeddedState } from "../state.ts";
import { loadAdapter, loadAdapterFromTensors, unloadAdapter } from "./adapters.ts";
import { ApiError } from "./api_error.ts";
import { abort, flushCache, health, memoryOccupation, pause, ready, resume } from "./control.ts";
import { detokenize, generate, tokenize } from "./generate.ts";
import {
  beginUpdate,
  destroyGroup,
  endUpdate,
  initGroup,
  updateFromDisk,
  updateFromDistributed,
  updateVersion,
  weightsByName,
  weightsChecker,
} from "./weights.ts";
import { getLoad, loads, modelInfo, models, serverInfo } from "./infos.ts";

type Handler = (request: Request, state: EmbeddedState) => unknown;

const deprecated: Handler = (_, state) => {
  throw new ApiError(
    404,
    state.emulated.version === "0.5.16"
      ? {
        object: "error",
        message:
          "Endpoint '/get_weight_version' or '/weight_version' is deprecated. Please use '/model_info' instead.",
        type: "404",
        param: null,
        code: 404,
      }
      : { detail: "Not Found" },
  );
};

const info: Handler = (request, state) =>
  serverInfo(state, { port: Number(new URL(request.url).port) });

/** An endpoint that 0.5.16 lacks. */
function newestOnly(handler: Handler): Handler {
  return (request, state) => {
    if (state.emulated.version === "0.5.16") throw new ApiError(404, { detail: "Not Found" });
    return handler(request, state);
  };
}

const handlers = new Map<string, Handler>([
  ["POST /generate", generate],
  ["PUT /generate", generate],
  ["GET /health", (_, state) => health(state)],
  ["GET /health_generate", (_, state) => health(state)],
  ["GET /ping", () => new Response(null)],
  ["GET /ready", newestOnly((_, state) => ready(state))],
  ["GET /server_info", info],
  ["GET /get_server_info", info],
  ["GET /model_info", (_, state) => modelInfo(state)],
  ["GET /get_model_info", (_, state) => modelInfo(state)],
  ["GET /v1/models", (_, state) => models(state)],
  ["GET /v1/loads", (_, state) => loads(state)],
  ["GET /get_load", (_, state) => getLoad(state)],
  ["GET /weight_version", deprecated],
  ["GET /get_weight_version", deprecated],
  ["GET /flush_cache", flushCache],
  ["POST /flush_cache", flushCache],
  ["POST /pause_generation", pause],
  ["POST /continue_generation", resume],
  ["POST /abort_request", abort],
  ["POST /release_memory_occupation", memoryOccupation],
  ["POST /resume_memory_occupation", memoryOccupation],
  ["POST /init_weights_update_group", initGroup],
  ["POST /destroy_weights_update_group", destroyGroup],
  ["POST /begin_weight_update", newestOnly(beginUpdate)],
  ["POST /end_weight_update", newestOnly(endUpdate)],
  ["POST /update_weights_from_distributed", updateFromDistributed],
  ["POST /update_weights_from_disk", updateFromDisk],
  ["POST /update_weight_version", updateVersion],
  ["GET /get_weights_by_name", weightsByName],
  ["POST /get_weights_by_name", weightsByName],
  ["GET /weights_checker", weightsChecker],
  ["POST /weights_checker", weightsChecker],
  ["POST /load_lora_adapter", loadAdapter],
  ["POST /load_lora_adapter_from_tensors", loadAdapterFromTensors],
  ["POST /unload_lora_adapter", unloadAdapter],
  ["POST /tokenize", tokenize],
  ["POST /v1/tokenize", tokenize],
  ["POST /detokenize", detokenize],
  ["POST /v1/detokenize", detokenize],
]);

/** Answers one request. */
export async function route(request: Request, state: EmbeddedState): Promise<Response> {
  try {
    const handler = handlers.get(`${request.method} ${new URL(request.url).pathname}`);
    if (handler === undefined) throw new ApiError(404, { detail: "Not Found" });
    await state.faults.delay();
    const answer = await handler(request, state);
    if (state.isCrashed) return await noAnswer(state);
    return answer instanceof Response ? answer : Response.json(answer);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (state.isCrashed) return await noAnswer(state);
    return typeof error.body === "string"
      ? new Response(error.body, { status: error.status })
      : Response.json(error.body, { status: error.status });
  }
}

/**
 * Whoever asked before a crash hears nothing more: the connection breaks. What this gives at the end
 * reaches nobody; it only lets the listener end, which waits for every answer.
 */
async function noAnswer(state: EmbeddedState): Promise<Response> {
  await state.closed;
  return new Response(null, { status: 503 });
}
