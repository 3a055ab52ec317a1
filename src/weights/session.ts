import { HttpError } from "../errors.ts";
import { sleep } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { onAll } from "./fleet.ts";
import type { WeightDeadlines } from "./options.ts";
import type { FleetServer } from "./server.ts";

const POLL_MS = 250;
/** Part of the deadline that is spent on waiting for another trainer before taking over. */
const PATIENCE = 0.7;

/**
 * Opens a weight-update session on every server that has sessions (from 0.5.22).
 *
 * A session outlives a client that died in it. One that stays open for most of the deadline is
 * therefore closed and opened anew, with a warning.
 */
export async function openSession(
  servers: readonly FleetServer[],
  options: { deadlines: WeightDeadlines; logger: Logger; signal: AbortSignal | undefined },
): Promise<void> {
  const { deadlines, logger, signal } = options;
  const call = { phase: "begin", timeoutMs: deadlines.beginMs, signal };
  await onAll(servers, call, async (server, inner) => {
    if (!server.capabilities.hasWeightSession) return;
    await server.endSession(inner);
    const takeOverAt = performance.now() + deadlines.beginMs * PATIENCE;
    // Set first: a begin whose answer is lost may have come through.
    server.sessionOpen = true;
    for (;;) {
      try {
        await server.client.beginWeightUpdate({ signal: inner });
        return;
      } catch (error) {
        if (!isAlreadyOpen(error)) throw error;
        if (performance.now() >= takeOverAt) {
          logger.warn(`${server.url} had a session that stayed open; it is taken over`);
          await server.endSession(inner);
          server.sessionOpen = true;
        } else {
          await sleep(POLL_MS, { signal: inner, phase: "begin" });
        }
      }
    }
  });
}

function isAlreadyOpen(error: unknown): boolean {
  return error instanceof HttpError && /already open/i.test(error.serverMessage);
}
