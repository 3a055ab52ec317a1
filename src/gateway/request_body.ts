import { setImmediate } from "node:timers/promises";
import { TimeoutError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { isRecord } from "../internal/json.ts";
import { WORK_A_TURN, workTurns } from "../internal/work_turns.ts";
import { type BodyLimits, scanBody } from "./body_scan.ts";
import { GatewayRefusal, invalid } from "./fault.ts";
import type { GatewayRequest } from "./http_server.ts";

/** So many pieces may be of any size: each costs far more than its bytes. */
const MOST_CRUMBS = 10_000;
/** Beyond them, the least bytes of a piece on average. */
const CRUMB_BYTES = 16;
const PIECES_A_TURN = 256;
/** Characters that are read as JSON in the time in which one is tokenised. */
const CHARACTERS_READ = 64;

/** What bodies are read with. */
export interface BodyOptions {
  readonly maxBytes: number;
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** What it may hold. */
  readonly limits: BodyLimits;
}

/**
 * The JSON object in the body of a request; an empty body is an empty object.
 *
 * @throws {GatewayRefusal} It is too long, too slow, no JSON, or no object.
 */
export async function readBody(
  request: GatewayRequest,
  { maxBytes, timeoutMs, clock, limits }: BodyOptions,
): Promise<Record<string, unknown>> {
  const coding = request.headers.get("content-encoding") ?? "identity";
  if (coding.trim().toLowerCase() !== "identity") {
    // A packed body of some bytes may be gigabytes.
    throw new GatewayRefusal(`Send the body as it is, without content-encoding: ${coding}`, {
      status: 415,
      reason: "content_encoding",
    });
  }
  if (Number(request.headers.get("content-length") ?? 0) > maxBytes) throw tooLong(maxBytes);
  let text: string;
  try {
    text = await withDeadline(
      { phase: "the body of a request", timeoutMs, clock, signal: request.signal },
      (signal) => readText(request, maxBytes, signal),
    );
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error;
    const message = `The body did not come within ${timeoutMs} ms`;
    throw new GatewayRefusal(message, { status: 408, reason: "body_timeout", cause: error });
  }
  if (text.trim() === "") return {};
  await scanBody(text, limits, () => workTurns.turn(WORK_A_TURN));
  // Reading goes alone where it takes as long as a turn of the loop may.
  await workTurns.turn(text.length / CHARACTERS_READ);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const message = `The body is not JSON: ${(cause as Error).message.slice(0, 200)}`;
    throw new GatewayRefusal(message, { status: 400, reason: "invalid_request", cause });
  }
  if (!isRecord(value)) throw invalid("The body must be a JSON object");
  return value;
}

async function readText(
  { body }: GatewayRequest,
  maxBytes: number,
  signal: AbortSignal,
): Promise<string> {
  const decoder = new TextDecoder("utf-8");
  let text = "";
  let length = 0;
  let pieces = 0;
  for await (const bytes of body) {
    if (signal.aborted) break;
    length += bytes.length;
    pieces++;
    if (length > maxBytes) throw tooLong(maxBytes);
    if (pieces > MOST_CRUMBS && length < pieces * CRUMB_BYTES) throw inCrumbs(pieces, length);
    text += decoder.decode(bytes, { stream: true });
    // What has come already is read without a turn of the event loop, in which others are served.
    if (pieces % PIECES_A_TURN === 0) await setImmediate();
  }
  return text + decoder.decode();
}

function inCrumbs(pieces: number, length: number): GatewayRefusal {
  const message = `The body came in ${pieces} pieces of ${length} bytes in all; ` +
    `send it in pieces of at least ${CRUMB_BYTES} bytes`;
  return new GatewayRefusal(message, { status: 400, reason: "body_in_crumbs" });
}

function tooLong(maxBytes: number): GatewayRefusal {
  return new GatewayRefusal(`The body is longer than ${maxBytes} bytes`, {
    status: 413,
    reason: "body_too_long",
  });
}
