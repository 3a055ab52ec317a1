import { WeightSyncError } from "../errors.ts";
import { sleep } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { type FleetCall, onAll } from "./fleet.ts";
import type { FleetServer } from "./server.ts";

const UPDATING = "updating:";
const INCOMPLETE = "incomplete:";
const POLL_MS = 250;
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

/** Whether a version is the mark of a sync, running or failed. */
export function isMark(version: string | null): boolean {
  return version !== null && (version.startsWith(UPDATING) || version.startsWith(INCOMPLETE));
}

/**
 * Waits while another trainer's sync runs. A mark that stays is one of a trainer that died, and is
 * taken over with a warning.
 */
export async function awaitOthers(
  servers: readonly FleetServer[],
  options: { owner: string; patienceMs: number; logger: Logger; call: FleetCall },
): Promise<void> {
  const { owner, patienceMs, logger, call } = options;
  const until = performance.now() + patienceMs;
  let waited = false;
  for (;;) {
    const busy = await othersAtWork(servers, owner, call);
    if (busy.length === 0) break;
    if (performance.now() >= until) {
      logger.warn(
        `${busy.join(", ")} still bear the mark of another sync after ${patienceMs} ms; its ` +
          "trainer is taken for dead",
      );
      return;
    }
    waited = true;
    await sleep(POLL_MS, { signal: call.signal, phase: call.phase });
  }
  if (waited) await sleep(HANDOVER_MS, { signal: call.signal, phase: call.phase });
}

async function othersAtWork(
  servers: readonly FleetServer[],
  owner: string,
  call: FleetCall,
): Promise<string[]> {
  const versions = await onAll(servers, call, (server, signal) => server.readVersion(signal));
  const own = `${UPDATING}${owner}:`;
  return servers
    .filter((_, i) => versions[i]?.startsWith(UPDATING) && !versions[i]!.startsWith(own))
    .map(({ url }) => url);
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
    server.condition = "partial";
    throw new WeightSyncError(
      `another trainer wrote to the server meanwhile: its weight version is "${version}", expected ` +
        `"${mark}". One trainer at a time may sync a fleet`,
      { phase: call.phase, server: server.url },
    );
  });
}
