import { HttpError, TimeoutError } from "../../errors.ts";
import type { Clock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import type { Logger } from "../../internal/logger.ts";
import type { WeightDeadlines } from "../deadlines.ts";
import { foreignMarks, REFRESH_MS } from "./lease.ts";
import { type Mark, ownerOf } from "./mark.ts";
import { type FleetCall, onAll } from "./on_all.ts";
import type { FleetServer } from "./server.ts";

const POLL_MS = 250;
/** A trainer that has set its version resumes the servers right after; do not pause in between. */
const HANDOVER_MS = 500;
/** A trainer that lives may miss two refreshes of its mark. */
const LEAST_PATIENCE_MS = 3 * REFRESH_MS;

/** How long a mark stays the same until its trainer is counted as dead. */
export function patienceOf({ takeoverMs }: Pick<WeightDeadlines, "takeoverMs">): number {
  return Math.max(takeoverMs, LEAST_PATIENCE_MS);
}

/** How to wait for other trainers. */
export interface TurnOptions {
  /** Our name. */
  readonly owner: string;
  /** How long a mark may stay the same until its trainer is counted as dead. */
  readonly patienceMs: number;
  /** Longest wait for trainers that live. */
  readonly turnMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly call: FleetCall;
}

/**
 * Waits while another trainer's sync runs, which writes its mark again every second. A mark that stays
 * the same is one of a trainer that died, or hangs; it is returned, to be taken over.
 */
export async function awaitOthers(
  servers: readonly FleetServer[],
  options: TurnOptions,
): Promise<ReadonlySet<Mark>> {
  const { owner, patienceMs, turnMs, clock, logger, call } = options;
  const from = clock.now();
  const seenSince = new Map<Mark, number>();
  let hasWaited = false;
  for (;;) {
    const others = await foreignMarks(servers, owner, call);
    if (others.size === 0) break;
    const now = clock.now();
    for (const mark of seenSince.keys()) if (!others.has(mark)) seenSince.delete(mark);
    for (const mark of others) if (!seenSince.has(mark)) seenSince.set(mark, now);
    if ([...others].every((mark) => now - seenSince.get(mark)! >= patienceMs)) {
      const names = [...others].map(ownerOf).join(", ");
      logger.warn(
        `The mark of trainer ${names} stayed for ${patienceMs} ms; it is counted as dead`,
      );
      return others;
    }
    if (now - from >= turnMs) {
      const peer = [...others].map((mark) => `trainer ${ownerOf(mark)}`).join(", ");
      throw new TimeoutError({ phase: call.phase, timeoutMs: turnMs, peer, lastHeard: "it lives" });
    }
    hasWaited = true;
    await sleep(POLL_MS, { signal: call.signal, phase: call.phase, clock });
  }
  if (hasWaited) await sleep(HANDOVER_MS, { signal: call.signal, phase: call.phase, clock });
  return new Set();
}

/** Part of the deadline that is spent on waiting for another trainer before taking over. */
const PATIENCE = 0.7;

/**
 * Opens a weight-update session on every server that has sessions (from 0.5.22).
 *
 * A session outlives a client that died in it. One that stays open for most of the deadline is
 * therefore closed and opened again, with a warning.
 */
export async function openSession(
  servers: readonly FleetServer[],
  options: {
    readonly deadlines: WeightDeadlines;
    /** Whether who had the servers before is counted as dead, and its session with it. */
    readonly takeOver: boolean;
    readonly clock: Clock;
    readonly logger: Logger;
    readonly signal: AbortSignal | undefined;
  },
): Promise<void> {
  const { deadlines, takeOver, clock, logger, signal } = options;
  const { beginMs: timeoutMs, stragglerMs: behindMs } = deadlines;
  // One that waits for another trainer's session is not behind, it is patient.
  const stragglerMs = timeoutMs * PATIENCE + behindMs;
  const call = { phase: "begin", timeoutMs, signal, stragglerMs };
  await onAll(servers, call, async (server, inner) => {
    if (!server.capabilities.hasWeightSession) return;
    await server.dropSession(inner);
    const takeOverAt = clock.now() + (takeOver ? 0 : deadlines.beginMs * PATIENCE);
    for (;;) {
      try {
        await server.openSession(inner);
        return;
      } catch (error) {
        if (!isAlreadyOpen(error)) throw error;
        if (clock.now() >= takeOverAt) {
          logger.warn(`${server.url} had a session that stayed open; it is taken over`);
          await server.endForeignSession(inner);
        } else {
          await sleep(POLL_MS, { signal: inner, phase: "begin", clock });
        }
      }
    }
  });
}

function isAlreadyOpen(error: unknown): boolean {
  return error instanceof HttpError && /already open/i.test(error.serverMessage);
}
