import { SyncOvertakenError, WeightSyncError } from "../../errors.ts";
import { throwIfAborted, withDeadline } from "../../internal/deadline.ts";
import { messageOf } from "../../internal/thrown.ts";
import { isMark } from "../../internal/version_marks.ts";
import { awaitOthers, openSession } from "../fleet/claim.ts";
import { Lease } from "../fleet/lease.ts";
import type { Mark } from "../fleet/mark.ts";
import { type FleetCall, onAllSettled, ServerFailure, unwrapFailure } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { OpenWeightSource } from "../source/source.ts";
import type {
  Transport,
  TransportRun,
  TransportServer,
  TransportUpdate,
} from "../transport/transport.ts";
import type { ReservedVersion } from "../version_ledger.ts";
import { isGone, stepFailed, syncFailed } from "./failure.ts";
import { requireFinite } from "./finite.ts";
import { type Lost, sendInLanes } from "./lanes.ts";
import { type CheckedTensor, checkForAll, referencesOf } from "./names.ts";
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
import { type Legacy, willOf } from "./will.ts";

/** Runs one sync from the first question to the resumed fleet, or cleans up and throws. */
export async function runSync(request: SyncRequest): Promise<WeightSyncReport> {
  const { signal } = request;
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
    throw syncFailed(error, { phase, step }, sync.servers);
  }
}

class Sync {
  readonly #request: SyncRequest;
  readonly #steps: Steps;
  readonly #versionsBefore = new Map<FleetServer, string | null>();
  #transport: Transport | undefined;
  #lease: Lease | undefined;
  /** All servers that the sync began with. */
  #servers: readonly FleetServer[] = [];
  /** Those that it went on without. */
  readonly #lost: Lost[] = [];
  /** What lost servers were in, until it is cleaned up. */
  #cleaning: Promise<unknown> = Promise.resolve();
  #isPublished = false;
  #touched = false;
  #pausedAtMs = 0;
  #pausedMs = 0;
  #reserved: ReservedVersion | undefined;

  constructor(request: SyncRequest, steps: Steps) {
    this.#request = request;
    this.#steps = steps;
  }

  /** The servers that the sync began with. */
  get servers(): readonly FleetServer[] {
    return this.#servers;
  }

  async run(): Promise<WeightSyncReport> {
    const { fleet, source, signal } = this.#request;
    const { options } = this.#request;
    const { deadlines } = options;
    await this.#step("probe", "probe", () => fleet.probe({ signal }));
    const servers = this.#servers = fleet.participants;
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
      async () => checkForAll(opened.tensors, await referencesOf(this.#request, opened, servers)),
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
    if (servers.some(({ wasReplaced }) => wasReplaced)) await transport.reset();
    const updates = await transport.prepare(run);
    const cacheFlushed = await this.#quiesce();
    await this.#send(updates);
    await this.#confirmSource(open);
    const { checksums, isSynchronised } = await this.#settle();
    await this.#publish(isSynchronised, open);
    if (this.#lost.length > 0) await this.#partWithLost();
    return {
      version: this.#version,
      syncId: this.#reserved.syncId,
      servers: fleet.participants.map((server) => server.state),
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
    await this.#cleaning;
    await recover({
      // The others serve already when only the lost are left to clean up.
      servers: this.#isPublished ? this.#lost.map(({ server }) => server) : this.#servers,
      transport: this.#isPublished ? undefined : this.#transport,
      isAlone: !this.#isPublished,
      error,
      versionsBefore: this.#versionsBefore,
      version: this.#version,
      lease: this.#lease,
      options: this.#request.options,
    });
    await this.#bequeathAll((server) => server.paused ? undefined : { holds: "settled" });
  }

  /**
   * The servers that the sync went on without are cleaned up last, so that nobody waits for them. The
   * sync has failed, unless they are gone and the options allow that.
   */
  async #partWithLost(): Promise<void> {
    this.#isPublished = true;
    const { whenUnreachable } = this.#request.options;
    const isAllowed = whenUnreachable === "skip" && this.#lost.every(({ error }) => isGone(error));
    const { phase, error } = this.#lost[0]!;
    const failure = stepFailed(phase, error);
    if (!isAllowed) throw failure;
    await this.recover(failure);
  }

  /** Goes on without a server. */
  #lose(lost: Lost): void {
    const { server, phase, error } = lost;
    const { logger } = this.#request.options;
    logger.warn(`The sync goes on without ${server.url}, lost in ${phase}: ${messageOf(error)}`);
    const isNamed = error instanceof ServerFailure;
    this.#lost.push(isNamed ? lost : { ...lost, error: new ServerFailure(server, error) });
    this.#request.fleet.drop(server);
    this.#lease?.drop(server);
  }

  /**
   * Does a step on every server that is left. Weights have changed, so a server where it fails holds
   * up none of the others; when it fails everywhere, the sync has failed.
   */
  async #onEach<T>(
    phase: SyncPhase,
    message: string,
    timeoutMs: number,
    work: (server: FleetServer, call: FleetCall & { signal: AbortSignal }) => Promise<T>,
  ): Promise<T[]> {
    const { fleet, signal, options } = this.#request;
    const { stragglerMs } = options.deadlines;
    const servers = fleet.participants;
    return await this.#step(phase, message, async () => {
      const call = { phase: message, timeoutMs, signal, stragglerMs };
      const outcomes = await onAllSettled(
        servers,
        call,
        (server, inner) => work(server, { phase: message, timeoutMs, signal: inner }),
      );
      const failures = outcomes.filter((outcome) => outcome instanceof ServerFailure);
      const overtaken = failures.find(isOvertaken);
      if (overtaken !== undefined) throw overtaken;
      const wrong = failures.find(({ cause }) => cause instanceof WeightSyncError);
      if (phase === "verify" && wrong !== undefined) throw wrong;
      if (failures.length === servers.length || signal?.aborted) {
        if (failures.length > 0) throw failures[0]!;
        throwIfAborted(signal, message);
      }
      outcomes.forEach((outcome, i) => {
        if (!(outcome instanceof ServerFailure)) return;
        this.#lose({ server: servers[i]!, phase: message, error: outcome });
      });
      return outcomes.filter((outcome) => !(outcome instanceof ServerFailure)) as T[];
    });
  }

  /** Tells whoever outlives this process how to leave a server if it is killed now. */
  async #bequeath(server: FleetServer, legacy: Legacy): Promise<void> {
    await this.#transport?.setWill?.(server, willOf(server, legacy));
  }

  async #bequeathAll(legacyOf: (server: FleetServer) => Legacy | undefined): Promise<void> {
    await Promise.all(this.#servers.map(async (server) => {
      const legacy = legacyOf(server);
      if (legacy !== undefined) await this.#bequeath(server, legacy);
    }));
  }

  #oldLegacy(server: FleetServer): Legacy {
    const version = this.#versionsBefore.get(server) ?? null;
    return isMark(version) ? this.#someLegacy() : { holds: "old", version };
  }

  #someLegacy(): Legacy {
    const serves = this.#request.options.whenMissed === "resume";
    return { holds: "some", version: this.#version, serves };
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
          stragglerMs: deadlines.stragglerMs,
        }));
    }
    let cacheFlushed: boolean | null = null;
    let takeOver = false;
    do {
      const dead = await this.#awaitTurn();
      await this.#bequeathAll((server) => this.#oldLegacy(server));
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

  /** Waits for other trainers; returns the marks of those that are counted as dead. */
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
        call: {
          phase,
          timeoutMs: deadlines.controlMs,
          signal,
          stragglerMs: deadlines.stragglerMs,
        },
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
      stragglerMs: deadlines.stragglerMs,
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

  /** Brings every byte to every server; afterwards each that is left has answered that it took them. */
  async #send(updates: readonly TransportUpdate[]): Promise<void> {
    const { fleet, signal, options } = this.#request;
    const { soleTrainer } = options;
    const { updateMs: timeoutMs, stragglerMs } = options.deadlines;
    const lease = this.#lease!;
    await this.#bequeathAll(() => this.#someLegacy());
    if (this.#transport!.isolates) {
      const { lost, cleaned } = await sendInLanes({
        clock: options.clock,
        isFatal: isOvertaken,
        confirm: async (server, phase) => {
          if (!soleTrainer) await lease.confirm(phase, [server]);
        },
        servers: fleet.participants,
        updates,
        timeoutMs,
        stragglerMs,
        signal,
        step: async (update, work) => {
          await this.#step("update", update.message, work);
          this.#steps.addBytes(update.byteLength);
        },
      });
      this.#cleaning = cleaned;
      for (const one of lost) this.#lose(one);
      return;
    }
    const servers = fleet.participants;
    const known = new Map<TransportServer, FleetServer>(servers.map((server) => [server, server]));
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
          servers,
          whileUpdating: async (server, call) => {
            await confirm();
            await known.get(server)!.whileUpdating(place, call);
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
    const { options } = this.#request;
    const { endMs, verifyMs, controlMs } = options.deadlines;
    if (this.#transport!.needsSession) {
      await this.#onEach("end", "end", endMs, async (server, { signal }) => {
        if (hasSession(server)) await this.#lease!.confirm("end", [server]);
        await server.closeSession(signal);
      });
    }
    const done = await this.#onEach(
      "synchronise",
      "synchronise",
      verifyMs,
      (server, call) => synchronise([server], call),
    );
    const isSynchronised = done.every((one) => one);
    await this.#onEach(
      "mark",
      "check the marks",
      controlMs,
      (server, call) => this.#lease!.confirm(call.phase, [server]),
    );
    if (options.verify !== "checksum") return { checksums: undefined, isSynchronised };
    const phase = "verify the checksums";
    const checksums = await this.#trusting(async () => {
      const read = await this.#onEach(
        "verify",
        phase,
        verifyMs,
        (server, call) => readChecksums([server], call),
      );
      const flat = read.flat();
      requireEqualChecksums(this.#request.fleet.participants, flat, phase);
      return flat;
    });
    return { checksums, isSynchronised };
  }

  /** Gives the servers their new version, resumes them and asks what is asked of serving ones. */
  async #publish(isSynchronised: boolean, open: OpenWeightSource): Promise<void> {
    const { fleet, signal, source, options } = this.#request;
    const { verifyMs, controlMs } = options.deadlines;
    let isSampled = false;
    if (options.verify === "sample") {
      const compared = await this.#trusting(() =>
        this.#onEach(
          "verify",
          "compare a sample",
          verifyMs,
          (server, call) => compareSample([server], source, open, call),
        )
      );
      isSampled = compared.every((one) => one);
    }
    const lease = this.#lease!;
    // No refresh may come after the version, and none of the checks above may have taken too long.
    await lease.stop();
    await this.#onEach(
      "version",
      "set the version",
      controlMs,
      async (server, { signal: inner }) => {
        await lease.confirm("set the version", [server]);
        await server.setVersion(this.#version, inner);
        if (options.verify !== "off") await requireVersion(server, this.#version, inner);
        server.completeSync();
        await this.#bequeath(server, { holds: "new", version: this.#version });
      },
    );
    await this.#onEach("resume", "resume", controlMs, async (server, { signal: inner }) => {
      await server.resume(inner);
      await this.#bequeath(server, { holds: "settled" });
    });
    this.#pausedMs = this.#steps.elapsedMs - this.#pausedAtMs;
    if ((options.verify === "sample" && !isSampled) || !isSynchronised) {
      await this.#trusting(() =>
        this.#step(
          "verify",
          "probe greedily",
          () =>
            probeGreedily(fleet.participants, this.#version, {
              phase: "probe greedily",
              timeoutMs: verifyMs,
              signal,
            }),
        )
      );
    }
  }

  /** A check of what the servers hold: where it finds them wrong, none of them is trusted. */
  async #trusting<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
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

function isOvertaken(error: unknown): boolean {
  return unwrapFailure(error).cause instanceof SyncOvertakenError;
}

function hasSession({ capabilities }: FleetServer): boolean {
  return capabilities.hasWeightSession;
}
