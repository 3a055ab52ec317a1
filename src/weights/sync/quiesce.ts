import { WeightSyncError } from "../../errors.ts";
import { throwIfAborted } from "../../internal/deadline.ts";
import { isMark } from "../../internal/version_marks.ts";
import { awaitOthers, openSession, patienceOf } from "../fleet/claim.ts";
import { Lease } from "../fleet/lease.ts";
import { groupsOf, type Mark, ownerOf } from "../fleet/mark.ts";
import { onAllSettled, ServerFailure } from "../fleet/on_all.ts";
import { hasSession, type RunningSync } from "./running_sync.ts";
import { readChecksums } from "./verify.ts";

/** Longest look whether a server is paused. */
const LOOK_MS = 5_000;

/** Brings generation to a halt, so that no token mixes weights, and claims the servers. */
export async function quiesce(sync: RunningSync): Promise<boolean | null> {
  const { fleet, signal } = sync.request;
  const { options } = sync.request;
  const { deadlines, clock, logger, pauseMode } = options;
  const servers = fleet.participants;
  if (options.verify === "checksum") {
    // Asked before anything changes, so that a server without it refuses in time.
    await sync.step("verify", "read the checksums", () =>
      readChecksums(servers, {
        phase: "read the checksums",
        timeoutMs: deadlines.verifyMs,
        signal,
        stragglerMs: deadlines.stragglerMs,
      }));
  }
  let cacheFlushed: boolean | null = null;
  let takeOver = false;
  do {
    const dead = await awaitTurn(sync);
    if (await lookForPauses(sync)) continue;
    await sync.bequeathAll((server) => sync.oldLegacy(server));
    sync.pausedAtMs = sync.steps.elapsedMs;
    await sync.step("pause", "pause", () => fleet.pause(pauseMode, { signal }));
    // Only mode abort ends the requests; in the others they wait for the new weights.
    if (pauseMode === "abort") {
      await sync.step("drain", "drain", () => fleet.drain({ signal }));
    }
    cacheFlushed = await flush(sync);
    takeOver = dead.size > 0;
    // Before our mark is over theirs: it alone tells of their groups, also to who comes after us.
    if (takeOver) await endGroupsOf(sync, dead);
    if (await claim(sync, dead)) break;
    logger.info("Another trainer syncs the same servers; waiting for it");
  } while (true);
  if (sync.transport!.needsSession) {
    await sync.step("begin", "begin", async () => {
      if (servers.some(hasSession)) await sync.lease!.confirm("begin");
      await openSession(servers, { deadlines, takeOver, clock, logger, signal });
    });
  }
  return cacheFlushed;
}

/** Waits for other trainers; returns the marks of those that are counted as dead. */
async function awaitTurn(sync: RunningSync): Promise<ReadonlySet<Mark>> {
  const { fleet, owner, signal } = sync.request;
  const { clock, deadlines, logger } = sync.request.options;
  const phase = "wait for other trainers";
  const servers = fleet.participants;
  const dead = await sync.step("mark", phase, () =>
    awaitOthers(servers, {
      owner,
      patienceMs: patienceOf(deadlines),
      turnMs: deadlines.turnMs,
      clock,
      logger,
      call: {
        phase,
        timeoutMs: deadlines.controlMs,
        signal,
        stragglerMs: deadlines.stragglerMs,
      },
    }));
  for (const server of servers) {
    sync.versionsBefore.set(server, server.weightVersion);
    server.believeVersion(isMark(server.weightVersion));
  }
  const served = servers.map(({ weightVersion }) => weightVersion);
  sync.reserved = sync.request.versions.review(sync.reserved!, served);
  return dead;
}

/**
 * Looks who is paused already, and is left so. Returns whether that is a sync of others, which is
 * waited for.
 */
async function lookForPauses(sync: RunningSync): Promise<boolean> {
  const { fleet, signal, options } = sync.request;
  const { deadlines, logger, whenPaused } = options;
  const phase = "look for pauses";
  const call = { phase, timeoutMs: Math.min(LOOK_MS, deadlines.controlMs), signal };
  // One that does not answer is found by the next step.
  const found = await sync.step(
    "probe",
    phase,
    () =>
      onAllSettled(fleet.participants, call, async (server, inner) => {
        if (!await server.lookForPause(whenPaused, inner)) return undefined;
        return { server, version: await server.readVersion(inner) };
      }),
  );
  throwIfAborted(signal, phase);
  const paused = found.flatMap((one) =>
    one === undefined || one instanceof ServerFailure ? [] : [one]
  );
  if (paused.some(({ version }) => isMark(version))) return true;
  for (const { server } of paused) {
    logger.warn(
      `${server.url} was paused before this sync; ` +
        (server.keepsPause
          ? "it stays paused until somebody resumes it"
          : "it generates after it: a trainer that was killed may have left it so " +
            '(whenPaused: "keep" leaves it paused)'),
    );
  }
  return false;
}

/**
 * Ends the groups of trainers that are counted as dead. One may only be stopped, with a bucket on its
 * way; each server has answered here, after which it takes no more of their buckets.
 */
async function endGroupsOf(sync: RunningSync, dead: ReadonlySet<string>): Promise<void> {
  const { fleet, signal, options } = sync.request;
  await sync.step(
    "mark",
    "end the groups of who is overtaken",
    () =>
      fleet.each("end their groups", "destroyMs", { signal }, async (server, inner) => {
        const version = sync.versionsBefore.get(server) ?? null;
        if (version === null || !dead.has(version)) return;
        const open = await server.endForeignGroups(groupsOf(version), inner);
        for (const one of open) {
          options.logger.warn(
            `${server.url} ends if trainer ${
              ownerOf(version)
            } goes on: no group could be put in the ` +
              `place of ${one}`,
          );
        }
      }),
  );
}

async function claim(sync: RunningSync, dead: ReadonlySet<Mark>): Promise<boolean> {
  const { fleet, owner, signal } = sync.request;
  const { clock, deadlines, logger, soleTrainer } = sync.request.options;
  const lease = sync.lease = new Lease({
    servers: fleet.participants,
    owner,
    version: sync.version,
    controlMs: deadlines.controlMs,
    stragglerMs: deadlines.stragglerMs,
    patienceMs: patienceOf(deadlines),
    signal,
    clock,
    logger,
  });
  const isOurs = await sync.step("mark", "mark", () => lease.claim(dead, soleTrainer));
  if (isOurs && lease.isLate) {
    sync.reserved = sync.request.versions.setApart(sync.reserved!);
    lease.version = sync.version;
  }
  if (isOurs) sync.request.onAnnounce(sync.version);
  return isOurs;
}

async function flush(sync: RunningSync): Promise<boolean | null> {
  const { fleet, signal } = sync.request;
  const { options } = sync.request;
  if (options.flushCache === false) return null;
  return await sync.step("flush", "flush", async () => {
    const isIdle = options.pauseMode === "abort";
    if (await fleet.flushCache({ signal, waitUntilIdle: isIdle })) return true;
    // Requests that wait for the new weights keep the cache; in mode abort nothing waits.
    if (!isIdle) return false;
    throw new WeightSyncError(
      "a server refused to empty its prefix cache although nothing runs; old prefixes would mix " +
        "with new weights",
      { phase: "flush" },
    );
  });
}
