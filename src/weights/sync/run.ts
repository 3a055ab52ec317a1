import { WeightSyncError } from "../../errors.ts";
import { throwIfAborted, withDeadline } from "../../internal/deadline.ts";
import { isMark } from "../../internal/version_marks.ts";
import { awaitOthers, openSession } from "../fleet/claim.ts";
import { Lease } from "../fleet/lease.ts";
import type { Mark } from "../fleet/mark.ts";
import { onAll, unwrapFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { OpenWeightSource } from "../source/source.ts";
import type {
  Transport,
  TransportRun,
  TransportServer,
  TransportUpdate,
} from "../transport/transport.ts";
import type { ReservedVersion } from "../version_ledger.ts";
import { stepFailed, syncFailed } from "./failure.ts";
import { requireFinite } from "./finite.ts";
import { type CheckedTensor, checkTensors, referenceOf } from "./names.ts";
import { planBuckets } from "./plan.ts";
import { Steps, type SyncPhase } from "./progress.ts";
import { recover } from "./recover.ts";
import type { SyncRequest, WeightSyncReport } from "./report.ts";
import {
  compareSample,
  probeGreedily,
  readChecksums,
  requireEqualChecksums,
  requireVersion,
  synchronise,
} from "./verify.ts";

/** Runs one sync from the first question to the resumed fleet, or cleans up and throws. */
export async function runSync(request: SyncRequest): Promise<WeightSyncReport> {
  const { fleet, signal } = request;
  const { logger } = request.options;
  const steps = new Steps({ logger, onProgress: request.onProgress });
  const sync = new Sync(request, steps);
  try {
    throwIfAborted(signal, "probe");
    return await sync.run();
  } catch (error) {
    const { message: phase, phase: step } = steps;
    const failure = stepFailed(phase, error, step);
    await steps.run("recover", "recover", () => sync.recover(failure));
    throw syncFailed(error, { phase, step }, fleet.participants);
  }
}

class Sync {
  readonly #request: SyncRequest;
  readonly #steps: Steps;
  readonly #versionsBefore = new Map<FleetServer, string | null>();
  #transport: Transport | undefined;
  #lease: Lease | undefined;
  #touched = false;
  #pausedAtMs = 0;
  #pausedMs = 0;
  #reserved: ReservedVersion | undefined;

  constructor(request: SyncRequest, steps: Steps) {
    this.#request = request;
    this.#steps = steps;
  }

  async run(): Promise<WeightSyncReport> {
    const { fleet, source, signal } = this.#request;
    const { options } = this.#request;
    const { deadlines } = options;
    await this.#step("probe", "probe", () => fleet.probe({ signal }));
    const servers = fleet.participants;
    for (const server of servers) {
      this.#versionsBefore.set(server, server.weightVersion);
      server.beginSync();
    }
    const { version: name, versions } = this.#request;
    this.#reserved = versions.reserve(name, servers.map(({ weightVersion }) => weightVersion));
    await using opened = await this.#step("source", "open the source", () =>
      withDeadline(
        { phase: "open the source", timeoutMs: deadlines.sourceMs, peer: source.label, signal },
        (inner) => source.open({ signal: inner }),
      ));
    const check = await this.#step(
      "check",
      "check the names",
      async () => checkTensors(opened.tensors, await referenceOf(this.#request, opened, servers)),
    );
    const { open, isFinite } = await this.#requireFinite(opened, check.send);
    const buckets = planBuckets(check.send, options);
    const sizeBytes = buckets.reduce((sum, bucket) => sum + bucket.byteLength, 0);
    this.#steps.setTotal(sizeBytes);
    const transport = this.#transport = await this.#request.openTransport();
    const run: TransportRun = {
      servers,
      source,
      open,
      buckets,
      version: this.#version,
      step: this.#steps.run.bind(this.#steps),
      signal,
    };
    this.#touched = true;
    if (servers.some(({ isStrange }) => isStrange)) await transport.reset();
    const updates = await transport.prepare(run);
    const cacheFlushed = await this.#quiesce();
    await this.#send(updates);
    await this.#confirmSource(open);
    const { checksums, isSynchronised } = await this.#settle();
    await this.#publish(isSynchronised, open);
    return {
      version: this.#version,
      syncId: this.#reserved.syncId,
      servers: servers.map((server) => server.state),
      skipped: fleet.leftOut,
      transport: transport.name,
      tensors: check.send.length,
      buckets: buckets.length,
      sizeBytes,
      notSent: [...check.tied, ...check.extra],
      cacheFlushed,
      verified: options.verify,
      finite: isFinite,
      checksums,
      durationMs: this.#steps.elapsedMs,
      pausedMs: this.#pausedMs,
      phasesMs: this.#steps.durationsMs,
    };
  }

  async recover(error: Error): Promise<void> {
    if (!this.#touched) return;
    await recover({
      servers: this.#request.fleet.participants,
      transport: this.#transport,
      error,
      versionsBefore: this.#versionsBefore,
      version: this.#version,
      lease: this.#lease,
      options: this.#request.options,
    });
  }

  /** Brings generation to a halt, so that no token mixes weights, and claims the servers. */
  async #quiesce(): Promise<boolean | null> {
    const { fleet, signal } = this.#request;
    const { options } = this.#request;
    const { deadlines, clock, logger, pauseMode } = options;
    const servers = fleet.participants;
    if (options.verify === "checksum") {
      // Asked before anything changes, so that a server without it refuses in time.
      await this.#step("verify", "read the checksums", () =>
        readChecksums(servers, {
          phase: "read the checksums",
          timeoutMs: deadlines.verifyMs,
          signal,
        }));
    }
    let cacheFlushed: boolean | null = null;
    let takeOver = false;
    do {
      const dead = await this.#awaitTurn();
      this.#pausedAtMs = this.#steps.elapsedMs;
      await this.#step("pause", "pause", () => fleet.pause(pauseMode, { signal }));
      // Only mode abort ends the requests; in the others they wait for the new weights.
      if (pauseMode === "abort") {
        await this.#step("drain", "drain", () => fleet.drain({ signal }));
      }
      cacheFlushed = await this.#flush();
      takeOver = dead.size > 0;
      if (await this.#claim(dead)) break;
      logger.info("Another trainer syncs the same servers; waiting for it");
    } while (true);
    if (this.#transport!.needsSession) {
      await this.#step("begin", "begin", async () => {
        if (servers.some(hasSession)) await this.#lease!.confirm("begin");
        await openSession(servers, { deadlines, takeOver, clock, logger, signal });
      });
    }
    return cacheFlushed;
  }

  /** Waits for other trainers; returns the marks of those that are taken for dead. */
  async #awaitTurn(): Promise<ReadonlySet<Mark>> {
    const { fleet, owner, signal } = this.#request;
    const { clock, deadlines, logger } = this.#request.options;
    const phase = "wait for other trainers";
    const servers = fleet.participants;
    const dead = await this.#step("mark", phase, () =>
      awaitOthers(servers, {
        owner,
        patienceMs: deadlines.takeoverMs,
        turnMs: deadlines.turnMs,
        clock,
        logger,
        call: { phase, timeoutMs: deadlines.controlMs, signal },
      }));
    for (const server of servers) {
      this.#versionsBefore.set(server, server.weightVersion);
      server.believeVersion(isMark(server.weightVersion));
    }
    const served = servers.map(({ weightVersion }) => weightVersion);
    this.#reserved = this.#request.versions.review(this.#reserved!, served);
    return dead;
  }

  async #claim(dead: ReadonlySet<Mark>): Promise<boolean> {
    const { fleet, owner, signal } = this.#request;
    const { clock, deadlines, logger, soleTrainer } = this.#request.options;
    const lease = this.#lease = new Lease({
      servers: fleet.participants,
      owner,
      version: this.#version,
      controlMs: deadlines.controlMs,
      signal,
      clock,
      logger,
    });
    const isOurs = await this.#step("mark", "mark", () => lease.claim(dead, soleTrainer));
    if (isOurs) this.#request.onAnnounce(this.#version);
    return isOurs;
  }

  get #version(): string {
    return this.#reserved?.version ?? "";
  }

  async #flush(): Promise<boolean | null> {
    const { fleet, signal } = this.#request;
    const { options } = this.#request;
    if (options.flushCache === false) return null;
    return await this.#step("flush", "flush", async () => {
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

  /** Brings every byte to every server; afterwards each has answered that it took them. */
  async #send(updates: readonly TransportUpdate[]): Promise<void> {
    const { signal, options } = this.#request;
    const timeoutMs = options.deadlines.updateMs;
    const { soleTrainer } = options;
    const lease = this.#lease!;
    const servers = new Map<TransportServer, FleetServer>(
      this.#request.fleet.participants.map((server) => [server, server]),
    );
    for (const [i, update] of updates.entries()) {
      const place = { isFirst: i === 0, isLast: i === updates.length - 1 };
      const phase = update.message;
      // Asked when the bytes are ready and before any server is, so that none goes ahead alone.
      let confirmed: Promise<void> | undefined;
      const confirm = () => confirmed ??= soleTrainer ? Promise.resolve() : lease.confirm(phase);
      await this.#step("update", phase, () =>
        update.send({
          phase,
          timeoutMs,
          signal,
          taking: async (server, call) => {
            await confirm();
            await servers.get(server)!.taking(place, call);
          },
        }));
      this.#steps.addBytes(update.byteLength);
    }
  }

  /** Looks at the values while the servers still generate. */
  async #requireFinite(
    open: OpenWeightSource,
    sent: readonly CheckedTensor[],
  ): Promise<{ open: OpenWeightSource; isFinite: boolean }> {
    const { source, signal, options } = this.#request;
    if (options.finite === false) return { open, isFinite: false };
    const sourceIndexes = sent.map(({ sourceIndex }) => sourceIndex);
    const required = options.finite === true;
    const finite = await this.#step(
      "check",
      "check for NaN and infinities",
      () => requireFinite(source, open, { sourceIndexes, required, signal }),
    );
    return { open: finite.open, isFinite: finite.isComplete };
  }

  /** What was sent is of one piece only if no file changed before its last byte was read. */
  async #confirmSource(open: OpenWeightSource): Promise<void> {
    const { fleet, source, signal, options } = this.#request;
    const phase = "check that the source is unchanged";
    const wait = { phase, timeoutMs: options.deadlines.sourceMs, peer: source.label, signal };
    try {
      await this.#step(
        "source",
        phase,
        () => withDeadline(wait, async (inner) => await open.confirm?.({ signal: inner })),
      );
    } catch (error) {
      for (const server of fleet.participants) server.distrust();
      throw error;
    }
  }

  /** Ends the session and proves that the weights are there, while nobody generates yet. */
  async #settle(): Promise<
    { checksums: readonly string[] | undefined; isSynchronised: boolean }
  > {
    const { fleet, signal } = this.#request;
    const { options } = this.#request;
    const { deadlines } = options;
    const servers = fleet.participants;
    if (this.#transport!.needsSession) {
      await this.#step("end", "end", async () => {
        if (servers.some(hasSession)) await this.#lease!.confirm("end");
        await fleet.closeSessions({ signal });
      });
    }
    const isSynchronised = await this.#step(
      "synchronise",
      "synchronise",
      () => synchronise(servers, { phase: "synchronise", timeoutMs: deadlines.verifyMs, signal }),
    );
    await this.#step(
      "mark",
      "check the marks",
      () => this.#lease!.confirm("check the marks"),
    );
    if (options.verify !== "checksum") return { checksums: undefined, isSynchronised };
    const checksums = await this.#verify("verify the checksums", async () => {
      const call = { phase: "verify the checksums", timeoutMs: deadlines.verifyMs, signal };
      const read = await readChecksums(servers, call);
      requireEqualChecksums(servers, read, call.phase);
      return read;
    });
    return { checksums, isSynchronised };
  }

  /** Gives the servers their new version, resumes them and asks what is asked of serving ones. */
  async #publish(isSynchronised: boolean, open: OpenWeightSource): Promise<void> {
    const { fleet, signal } = this.#request;
    const { options } = this.#request;
    const { deadlines } = options;
    const servers = fleet.participants;
    const isSampled = options.verify === "sample" &&
      await this.#verify(
        "compare a sample",
        () =>
          compareSample(servers, this.#request.source, open, {
            phase: "compare a sample",
            timeoutMs: deadlines.verifyMs,
            signal,
          }),
      );
    await this.#step("version", "set the version", async () => {
      // No refresh may come after the version, and none of the checks above may have taken too long.
      await this.#lease!.stop();
      await this.#lease!.confirm("set the version");
      const call = { phase: "set the version", timeoutMs: deadlines.controlMs, signal };
      await onAll(servers, call, async (server, inner) => {
        await server.setVersion(this.#version, inner);
        if (options.verify !== "off") await requireVersion(server, this.#version, inner);
        server.completeSync();
      });
    });
    await this.#step("resume", "resume", () => fleet.resume({ signal }));
    this.#pausedMs = this.#steps.elapsedMs - this.#pausedAtMs;
    if ((options.verify === "sample" && !isSampled) || !isSynchronised) {
      await this.#verify("probe greedily", () =>
        probeGreedily(servers, this.#version, {
          phase: "probe greedily",
          timeoutMs: deadlines.verifyMs,
          signal,
        }));
    }
  }

  /** A check of what the servers hold: where it finds them wrong, none of them is trusted. */
  async #verify<T>(message: string, work: () => Promise<T>): Promise<T> {
    try {
      return await this.#step("verify", message, work);
    } catch (error) {
      if (unwrapFailure(error).cause instanceof WeightSyncError) {
        for (const server of this.#request.fleet.participants) server.distrust();
      }
      throw error;
    }
  }

  #step<T>(phase: SyncPhase, message: string, work: () => Promise<T>): Promise<T> {
    return this.#steps.run(phase, message, work);
  }
}

function hasSession({ capabilities }: FleetServer): boolean {
  return capabilities.hasWeightSession;
}
