/** Health, pause, abort and cache. */
import { systemClock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import type { EmbeddedState } from "../state.ts";
import { ApiError, formError } from "./api_error.ts";
import { asObject } from "./generate_request.ts";
import { jsonBody } from "./json_body.ts";

/** How often a wait looks again, in milliseconds. */
const pollMs = 10;

const flushed = "Cache flushed.\nPlease check backend logs for more details. (When there are " +
  "running or waiting requests, the operation will not be performed.)\n";

/** `GET /health`: a paused or stalled server answers 503, but only after a while. */
export async function health(state: EmbeddedState): Promise<Response> {
  const deadline = systemClock.now() + state.options.healthTimeoutMs;
  const isWell = () => !state.scheduler.paused && state.faults.current.stalled !== true;
  while (!isWell()) {
    if (systemClock.now() >= deadline) return new Response(null, { status: 503 });
    await Promise.race([sleep(pollMs, { phase: "health check" }), state.crashed]);
  }
  return new Response(null, { status: 200 });
}

/** `GET /ready`, from 0.5.20 on: at once, 503 while paused. */
export function ready(state: EmbeddedState): Response {
  return new Response(null, { status: state.scheduler.paused ? 503 : 200 });
}

/** `POST /pause_generation`. */
export async function pause(request: Request, state: EmbeddedState): Promise<unknown> {
  const { mode = "abort" } = asObject(await jsonBody(request));
  if (mode !== "abort" && mode !== "retract" && mode !== "in_place") {
    throw formError(
      "{'type': 'literal_error', 'loc': ('body', 'mode'), 'msg': \"Input should be 'abort', " +
        `'retract' or 'in_place'", 'input': ${JSON.stringify(mode)}}`,
    );
  }
  state.scheduler.pause(mode);
  return { message: "Generation paused successfully.", status: "ok" };
}

/** `POST /continue_generation`. */
export async function resume(request: Request, state: EmbeddedState): Promise<unknown> {
  asObject(await jsonBody(request));
  state.scheduler.resume();
  return { message: "Generation continued successfully.", status: "ok" };
}

/** `POST /abort_request`: one id, or with `abort_all` everything; always 200. */
export async function abort(request: Request, state: EmbeddedState): Promise<Response> {
  const { rid = "", abort_all: all = false } = asObject(await jsonBody(request));
  if (all === true) state.scheduler.abort(() => true);
  else if (typeof rid === "string" && state.knows(rid)) {
    // The real scheduler matches by prefix once it knows the id itself.
    state.scheduler.abort((other) => other.startsWith(rid));
  }
  return new Response(null, { status: 200 });
}

/** `GET` or `POST /flush_cache`, with `?timeout=` in seconds to wait for an idle server. */
export async function flushCache(request: Request, state: EmbeddedState): Promise<Response> {
  const timeout = Number(new URL(request.url).searchParams.get("timeout") ?? 0);
  const waits = Number.isFinite(timeout) && timeout > 0;
  const deadline = systemClock.now() + timeout * 1000;
  const ignoreQueueWhenPaused = state.emulated.flushesWhenRetracted && !waits;
  while (!state.scheduler.canFlush({ ignoreQueueWhenPaused })) {
    if (systemClock.now() >= deadline) {
      throw new ApiError(
        400,
        waits ? "Timed out waiting for idle state." : "Flush cache failed.\n",
      );
    }
    await Promise.race([sleep(pollMs, { phase: "flush" }), state.crashed]);
  }
  state.scheduler.flush();
  return new Response(flushed, { headers: { "content-type": "text/plain; charset=utf-8" } });
}

/** `POST /release_memory_occupation` and `/resume_memory_occupation`: SGLang's answer without a memory saver. */
export async function memoryOccupation(request: Request): Promise<null> {
  asObject(await jsonBody(request));
  return null;
}
