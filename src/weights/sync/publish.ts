import { WeightSyncError } from "../../errors.ts";
import { unwrapFailure } from "../fleet/on_all.ts";
import type { OpenWeightSource } from "../source/source.ts";
import type { CheckedTensor } from "./names.ts";
import { hasSession, type RunningSync } from "./running_sync.ts";
import type { PlannedBucket } from "./plan.ts";
import {
  compareSample,
  isReceivedApart,
  probeGreedily,
  readChecksums,
  requireEqualChecksums,
  requireVersion,
  synchronise,
} from "./verify.ts";

/** Ends the session and proves that the weights are there, while nobody generates yet. */
export async function settle(
  sync: RunningSync,
  buckets: readonly PlannedBucket[],
): Promise<
  { checksums: readonly string[] | undefined; isSynchronised: boolean }
> {
  const { options } = sync.request;
  const { endMs, verifyMs, controlMs } = options.deadlines;
  if (sync.transport!.needsSession) {
    await sync.onEach("end", "end", endMs, async (server, { signal }) => {
      if (hasSession(server)) await sync.lease!.confirm("end", [server]);
      await server.closeSession(signal);
    });
  }
  const isApart = isReceivedApart(sync.transport!.name, buckets);
  const done = await sync.onEach(
    "synchronise",
    "synchronise",
    verifyMs,
    (server, call) => synchronise([server], call, isApart),
  );
  const isSynchronised = done.every((one) => one);
  // The version is written only after another look; here it is for what is read before that.
  if (options.verify === "checksum" || options.verify === "sample") {
    await sync.onEach(
      "mark",
      "check the marks",
      controlMs,
      (server, call) => sync.lease!.confirm(call.phase, [server]),
    );
  }
  if (options.verify !== "checksum") return { checksums: undefined, isSynchronised };
  const phase = "verify the checksums";
  const checksums = await trusting(sync, async () => {
    const read = await sync.onEach(
      "verify",
      phase,
      verifyMs,
      (server, call) => readChecksums([server], call),
    );
    const flat = read.flat();
    requireEqualChecksums(sync.request.fleet.participants, flat, phase);
    return flat;
  });
  return { checksums, isSynchronised };
}

/** Gives the servers their new version, resumes them and asks what is asked of serving ones. */
export async function publish(
  sync: RunningSync,
  isSynchronised: boolean,
  open: OpenWeightSource,
  sent: readonly CheckedTensor[],
): Promise<void> {
  const { fleet, signal, source, options } = sync.request;
  const { verifyMs, controlMs } = options.deadlines;
  let isSampled = false;
  if (options.verify === "sample") {
    const compared = await trusting(sync, () =>
      sync.onEach(
        "verify",
        "compare a sample",
        verifyMs,
        (server, call) => compareSample([server], source, { open, sent }, call),
      ));
    isSampled = compared.every((one) => one);
  }
  const lease = sync.lease!;
  // No refresh may come after the version, and none of the checks above may have taken too long.
  await lease.stop();
  await sync.onEach(
    "version",
    "set the version",
    controlMs,
    async (server, { signal: inner }) => {
      await lease.write(server, "set the version", () => server.setVersion(sync.version, inner));
      if (options.verify !== "off") await requireVersion(server, sync.version, inner);
      server.completeSync();
      await sync.bequeath(server, { holds: "new", version: sync.version });
    },
  );
  await sync.onEach("resume", "resume", controlMs, async (server, { signal: inner }) => {
    await server.endPause(inner);
    await sync.bequeath(server, { holds: "settled" });
  });
  sync.pausedMs = sync.steps.elapsedMs - sync.pausedAtMs;
  if ((options.verify === "sample" && !isSampled) || !isSynchronised) {
    await trusting(sync, () =>
      sync.step(
        "verify",
        "probe greedily",
        () =>
          probeGreedily(fleet.participants.filter(({ isSilent }) => !isSilent), sync.version, {
            phase: "probe greedily",
            timeoutMs: verifyMs,
            signal,
          }),
      ));
  }
}

/** A check of what the servers hold: where it finds them wrong, none of them is trusted. */
async function trusting<T>(sync: RunningSync, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (unwrapFailure(error).cause instanceof WeightSyncError) {
      for (const server of sync.request.fleet.participants) server.distrust();
    }
    throw error;
  }
}
