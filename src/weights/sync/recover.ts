import { messageOf } from "../../internal/thrown.ts";
import { incompleteMark } from "../fleet/claim.ts";
import { leaveGroups } from "../fleet/fleet.ts";
import { type FleetCall, onAllSettled, ServerFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { ResolvedOptions } from "../options.ts";
import type { Transport } from "../transport/transport.ts";

/** What there is to clean up. */
export interface Recovery {
  /** The servers of the failed sync. */
  readonly servers: readonly FleetServer[];
  /** How the weights travelled. */
  readonly transport: Transport | undefined;
  /** Why the sync failed. */
  readonly error: Error;
  /** Version of each server before the sync. */
  readonly versionsBefore: ReadonlyMap<FleetServer, string | null>;
  /** The version that was to be set. */
  readonly version: string;
  readonly options: ResolvedOptions;
}

/**
 * Cleans up after a failed sync, in bounded time and without regard to the caller's cancellation:
 * lets go of the group, closes sessions, destroys the group on every server, and resumes the
 * servers that may serve:
 *
 * - all that answer hold the old weights: all of them get their old version back and resume;
 * - otherwise those with all of the new weights resume, the others stay paused (or resume under a
 *   version that tells, when the caller wants that).
 *
 * Never rejects; what fails here is logged and noted at the server.
 */
export async function recover(recovery: Recovery): Promise<void> {
  const { servers, transport, error, options } = recovery;
  await transport?.abort(error);
  const alive = await settle(recovery, servers, "look for survivors", async (server, signal) => {
    await server.readVersion(signal);
  });
  await settle(recovery, alive, "end the session", (server, signal) => server.dropSession(signal));
  for (const server of alive) server.settleTaken();
  await leaveGroups(alive, options);
  const isIntact = alive.every(({ condition }) => condition === "untouched");
  await settle(recovery, alive, "set the version", async (server, signal) => {
    if (!server.marked) return;
    const before = recovery.versionsBefore.get(server) ?? "default";
    if (server.condition === "untouched") await server.unmark(before, signal);
    else if (server.condition === "complete") await server.unmark(recovery.version, signal);
    else await server.unmark(incompleteMark(recovery.version), signal);
  });
  const resumable = alive.filter((server) =>
    server.paused &&
    (isIntact || server.condition === "complete" || options.whenMissed === "resume")
  );
  await settle(recovery, resumable, "resume", (server, signal) => server.resume(signal));
}

/** Does a step where it can be done; returns the servers where it was. */
async function settle(
  recovery: Recovery,
  servers: readonly FleetServer[],
  phase: string,
  work: (server: FleetServer, signal: AbortSignal) => Promise<void>,
): Promise<FleetServer[]> {
  const { deadlines, logger } = recovery.options;
  const call: FleetCall = { phase, timeoutMs: deadlines.destroyMs };
  const outcomes = await onAllSettled(servers, call, work);
  return servers.filter((server, i) => {
    const outcome = outcomes[i];
    if (!(outcome instanceof ServerFailure)) return true;
    server.note(`could not ${phase}: ${messageOf(outcome.cause)}`);
    logger.warn(`After a failed weight sync ${server.url} ${server.problem}`);
    return false;
  });
}
