import { FIRST_NAME } from "../../internal/version_names.ts";
import { messageOf } from "../../internal/thrown.ts";
import { LATE_MS, leaveGroups } from "../fleet/fleet.ts";
import type { Lease } from "../fleet/lease.ts";
import { incompleteMark, ownerOf } from "../fleet/mark.ts";
import { type FleetCall, onAllSettled, ServerFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { Transport } from "../transport/transport.ts";

/** What there is to clean up. */
export interface Recovery {
  /** The servers of the failed sync. */
  readonly servers: readonly FleetServer[];
  /** How the weights travelled, where it must let go. */
  readonly transport: Transport | undefined;
  /** Whether these are all servers of the sync; else others hold the new weights. */
  readonly isAlone: boolean;
  /** Why the sync failed. */
  readonly error: Error;
  /** Version of each server before the sync. */
  readonly versionsBefore: ReadonlyMap<FleetServer, string | null>;
  /** The version that was to be set. */
  readonly version: string;
  /** Our right to write; `undefined` before it was asked for. */
  readonly lease: Lease | undefined;
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
 * A server that another trainer wrote to meanwhile is left alone: nothing is written to it and nothing
 * is said of what it holds.
 *
 * Never rejects; what fails here is logged and noted at the server.
 */
export async function recover(recovery: Recovery): Promise<void> {
  const { servers, transport, error, options } = recovery;
  await transport?.abort(error);
  await recovery.lease?.stop();
  const answering = await settle(
    recovery,
    servers,
    "look for survivors",
    async (server, signal) => {
      const version = await server.readVersion(signal);
      if (isForeign(server, version, recovery)) server.yieldTo(version);
    },
  );
  // Our own group is all that we may still touch on another's server: who leaves harms nobody.
  await leaveGroups(answering.filter(({ condition }) => condition === "foreign"), options);
  const alive = answering.filter(({ condition }) => condition !== "foreign");
  await settle(recovery, alive, "end the session", (server, signal) => server.dropSession(signal));
  for (const server of alive) server.settleFailed();
  await leaveGroups(alive, options);
  const isIntact = recovery.isAlone && alive.every(({ condition }) => condition === "untouched");
  await settle(recovery, alive, "set the version", async (server, signal) => {
    if (!server.marked) return;
    const before = recovery.versionsBefore.get(server) ?? FIRST_NAME;
    if (server.condition === "untouched") await server.unmark(before, signal);
    else if (server.condition === "complete") await server.unmark(recovery.version, signal);
    else await server.unmark(incompleteMark(recovery.version), signal);
  });
  // A check found wrong what serves under the new version already.
  const doubted = alive.filter((server) =>
    server.condition === "partial" && server.weightVersion === recovery.version
  );
  await settle(recovery, doubted, "pause", async (server, signal) => {
    await server.setVersion(incompleteMark(recovery.version), signal);
    if (options.whenMissed === "keep_paused") await server.pause(options.pauseMode, signal);
  });
  const resumable = alive.filter((server) =>
    server.paused &&
    (isIntact || server.condition === "complete" || options.whenMissed === "resume")
  );
  await settle(recovery, resumable, "resume", (server, signal) => server.endPause(signal));
}

/** Whether somebody else wrote a version to a server since we did, or does so now. */
function isForeign(server: FleetServer, version: string | null, recovery: Recovery): boolean {
  if (server.condition === "foreign") return true;
  if (server.marked) return !recovery.lease?.isOurs(version) && version !== recovery.version;
  const isOthersMark = version !== null && ownerOf(version) !== undefined;
  return isOthersMark && !recovery.lease?.isOurs(version);
}

/** Does a step where it can be done; returns the servers where it was. */
async function settle(
  recovery: Recovery,
  servers: readonly FleetServer[],
  phase: string,
  work: (server: FleetServer, signal: AbortSignal) => Promise<void>,
): Promise<FleetServer[]> {
  const { deadlines, logger } = recovery.options;
  const { destroyMs, stragglerMs } = deadlines;
  const lateMs = Math.min(LATE_MS, stragglerMs);
  // Servers that others were not kept waiting for keep the caller waiting no longer either.
  const timeoutMs = recovery.isAlone ? destroyMs : Math.min(destroyMs, lateMs);
  const call: FleetCall = { phase, timeoutMs, stragglerMs: lateMs };
  const outcomes = await onAllSettled(servers, call, work);
  return servers.filter((server, i) => {
    const outcome = outcomes[i];
    if (!(outcome instanceof ServerFailure)) return true;
    server.note(`could not ${phase}: ${messageOf(outcome.cause)}`);
    logger.warn(`After a failed weight sync ${server.url} ${server.problem}`);
    return false;
  });
}
