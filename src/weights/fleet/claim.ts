import { HttpError, WeightSyncError } from "../../errors.ts";
import { systemClock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import type { Logger } from "../../internal/logger.ts";
import { INCOMPLETE, UPDATING } from "../../internal/version_marks.ts";
import type { WeightDeadlines } from "../options.ts";
import { type FleetCall, onAll } from "./on_all.ts";
import type { FleetServer } from "./server.ts";

const POLL_MS = 250;
/** Longer than a read and a write of a version take. */
const OVERLAP_MS = 30;
/** A trainer that has set its version resumes the servers right after; do not pause in between. */
const HANDOVER_MS = 500;

/**
 * The weight version that servers have while a sync writes to them. It says two things: these
 * weights are neither the old nor the new ones, and whose sync this is, so that a second trainer can
 * stand back and a disturbed sync notices.
 */
export function updatingMark(owner: string, version: string): string {
  return `${UPDATING}${owner}:${version}`;
}

/** The weight version of servers that a failed sync left with some of the new weights. */
export function incompleteMark(version: string): string {
  return `${INCOMPLETE}${version}`;
}

/** Who claims servers, and how. */
export interface Claim {
  /** Our id. */
  readonly owner: string;
  /** The mark to leave. */
  readonly mark: string;
  /** How a call is made. */
  readonly call: FleetCall;
  /** Marks of trainers that are taken for dead. */
  readonly dead: ReadonlySet<string>;
  /** Whether nobody else is expected to leave a mark meanwhile. */
  readonly isSole: boolean;
}

/**
 * Waits while another trainer's sync runs. A mark that stays is one of a trainer that died; it is
 * returned, to be taken over.
 */
export async function awaitOthers(
  servers: readonly FleetServer[],
  options: { owner: string; patienceMs: number; logger: Logger; call: FleetCall },
): Promise<ReadonlySet<string>> {
  const { owner, patienceMs, logger, call } = options;
  const until = systemClock.now() + patienceMs;
  let hasWaited = false;
  for (;;) {
    const others = await foreignMarks(servers, owner, call);
    if (others.size === 0) break;
    if (systemClock.now() >= until) {
      logger.warn(
        `The mark of another sync stayed for ${patienceMs} ms; its trainer is taken for dead`,
      );
      return others;
    }
    hasWaited = true;
    await sleep(POLL_MS, { signal: call.signal, phase: call.phase });
  }
  if (hasWaited) await sleep(HANDOVER_MS, { signal: call.signal, phase: call.phase });
  return new Set();
}

/**
 * Leaves our mark on every server. `false`: another trainer is first, which must be waited for.
 *
 * Servers offer no lock, so a mark is written and read again after the time that another's read and
 * write could overlap with it; of two that met, the one with the smaller id goes on. What still slips
 * through is noticed by {@linkcode requireOwnMark}.
 */
export async function claim(servers: readonly FleetServer[], claim: Claim): Promise<boolean> {
  const { owner, mark, call, dead, isSole } = claim;
  const before = servers.map(({ weightVersion }) => weightVersion);
  const foreign = await foreignMarks(servers, owner, call);
  // A sync that ran meanwhile has resumed the servers and used up a version.
  const hasChanged = servers.some(({ weightVersion }, i) => weightVersion !== before[i]);
  if (hasChanged || ![...foreign].every((other) => dead.has(other))) return false;
  for (;;) {
    await onAll(servers, call, (server, signal) => server.mark(mark, signal));
    if (isSole) return true;
    await sleep(OVERLAP_MS, { signal: call.signal, phase: call.phase });
    const others = await foreignMarks(servers, owner, call);
    if (others.size === 0) return true;
    if ([...others].some((other) => ownerOf(other) < owner)) {
      for (const server of servers) server.standBack();
      return false;
    }
  }
}

async function foreignMarks(
  servers: readonly FleetServer[],
  owner: string,
  call: FleetCall,
): Promise<ReadonlySet<string>> {
  const versions = await onAll(servers, call, (server, signal) => server.readVersion(signal));
  return new Set(
    versions.filter((version) => version !== null)
      .filter((version) => version.startsWith(UPDATING) && ownerOf(version) !== owner),
  );
}

function ownerOf(mark: string): string {
  return mark.split(":")[1] ?? "";
}

/** Throws when a server no longer bears our mark: somebody else wrote to it meanwhile. */
export async function requireOwnMark(
  servers: readonly FleetServer[],
  mark: string,
  call: FleetCall,
): Promise<void> {
  await onAll(servers, call, async (server, signal) => {
    const version = await server.readVersion(signal);
    if (version === mark) return;
    server.wasDisturbed();
    throw new WeightSyncError(
      `another trainer wrote to the server meanwhile: its weight version is "${version}", expected ` +
        `"${mark}". One trainer at a time may sync a fleet`,
      { phase: call.phase, server: server.url },
    );
  });
}

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
    await server.dropSession(inner);
    const takeOverAt = systemClock.now() + deadlines.beginMs * PATIENCE;
    for (;;) {
      try {
        await server.openSession(inner);
        return;
      } catch (error) {
        if (!isAlreadyOpen(error)) throw error;
        if (systemClock.now() >= takeOverAt) {
          logger.warn(`${server.url} had a session that stayed open; it is taken over`);
          await server.endForeignSession(inner);
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
