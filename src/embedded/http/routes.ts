/** Which endpoint answers what. */
import type { EmbeddedState } from "../state.ts";
import { ApiError } from "./api_error.ts";
import { abort, flushCache, health, pause, resume } from "./control.ts";
import { detokenize, generate, tokenize } from "./generate.ts";
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

const handlers = new Map<string, Handler>([
  ["POST /generate", generate],
  ["PUT /generate", generate],
  ["GET /health", (_, state) => health(state)],
  ["GET /health_generate", (_, state) => health(state)],
  ["GET /ping", () => new Response(null)],
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
    return answer instanceof Response ? answer : Response.json(answer);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return typeof error.body === "string"
      ? new Response(error.body, { status: error.status })
      : Response.json(error.body, { status: error.status });
  }
}
