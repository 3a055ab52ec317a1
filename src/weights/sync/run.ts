import { AbortedError, UnsupportedError } from "../../errors.ts";
import { throwIfAborted, withDeadline } from "../../internal/deadline.ts";
import { overtaken } from "../fleet/lease.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { OpenWeightSource } from "../source/source.ts";
import type { TransportRun, TransportServer, TransportUpdate } from "../transport/transport.ts";
import { isGone, stepFailed, syncFailed } from "./failure.ts";
import { requireFinite } from "./finite.ts";
import { sendInLanes } from "./lanes.ts";
import { type CheckedTensor, checkForAll, referencesOf } from "./names.ts";
import { planBuckets } from "./plan.ts";
import { Steps } from "./progress.ts";
import { recover } from "./recover.ts";
import type { SyncRequest, WeightSyncReport } from "./report.ts";
import { quiesce } from "./quiesce.ts";
import { publish, settle } from "./publish.ts";
import { isOvertaken, RunningSync } from "./running_sync.ts";

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
    const cause = failure instanceof AbortedError ? error : sync.overtakenAt(phase, error);
    throw syncFailed(cause, { phase, step }, sync.servers);
  }
}

class Sync {
  readonly #sync: RunningSync;

  constructor(request: SyncRequest, steps: Steps) {
    this.#sync = new RunningSync(request, steps);
  }

  /** The servers that the sync began with. */
  get servers(): readonly FleetServer[] {
    return this.#sync.servers;
  }

  /** Why the sync failed: another has taken a server over, or else what failed first. */
  overtakenAt(phase: string, error: unknown): unknown {
    if (isOvertaken(error)) return error;
    // One with the version that it had before never took our mark.
    const theirs = this.servers.find((server) =>
      server.condition === "foreign" &&
      server.weightVersion !== this.#sync.versionsBefore.get(server)
    );
    return theirs === undefined ? error : overtaken(theirs, theirs.weightVersion, phase, error);
  }

  async run(): Promise<WeightSyncReport> {
    const { fleet, source, signal } = this.#sync.request;
    const { options } = this.#sync.request;
    const { deadlines } = options;
    await this.#sync.step("probe", "probe", () => fleet.probe({ signal }));
    const servers = this.#sync.servers = fleet.participants;
    for (const server of servers) {
      this.#sync.versionsBefore.set(server, server.weightVersion);
      server.beginSync();
    }
    const { version: name, versions, part } = this.#sync.request;
    const baseVersion = part?.requireSameBase(servers) ?? null;
    this.#sync.reserved = versions.reserve(name, servers.map(({ weightVersion }) => weightVersion));
    await using opened = await this.#sync.step("source", "open the source", () =>
      withDeadline(
        { phase: "open the source", timeoutMs: deadlines.sourceMs, peer: source.label, signal },
        (inner) => source.open({ signal: inner }),
      ));
    const check = await this.#sync.step(
      "check",
      "check the names",
      async () =>
        checkForAll(opened.tensors, await referencesOf(this.#sync.request, opened, servers), part),
    );
    const transport = this.#sync.transport = await this.#sync.request.openTransport();
    if (part !== undefined && transport.name === "disk") {
      throw new UnsupportedError(
        'The transport "disk" makes a folder with all weights the servers\' model: it cannot bring a ' +
          'part. Use another transport, or a delta ("./delta")',
      );
    }
    const { open, isFinite } = await this.#requireFinite(opened, check.send);
    const buckets = planBuckets(check.send, options);
    const sizeBytes = buckets.reduce((sum, bucket) => sum + bucket.byteLength, 0);
    this.#sync.steps.setTotal(sizeBytes);
    const run: TransportRun = {
      servers,
      source,
      open,
      buckets,
      version: this.#sync.version,
      step: this.#sync.steps.run.bind(this.#sync.steps),
      signal,
    };
    this.#sync.touched = true;
    if (servers.some(({ wasReplaced }) => wasReplaced)) await transport.reset();
    const updates = await transport.prepare(run);
    const cacheFlushed = await quiesce(this.#sync);
    await this.#send(updates);
    await this.#confirmSource(open);
    const { checksums, isSynchronised } = await settle(this.#sync, buckets);
    await publish(this.#sync, isSynchronised, open, check.send);
    if (this.#sync.lost.length > 0) await this.#partWithLost();
    return {
      version: this.#sync.version,
      syncId: this.#sync.reserved.syncId,
      servers: fleet.participants.map((server) => server.state),
      skipped: fleet.leftOut,
      transport: transport.name,
      tensors: check.send.length,
      buckets: buckets.length,
      sizeBytes,
      notSent: [...check.tied, ...check.extra],
      part: part && {
        only: part.only,
        baseVersion,
        names: check.send.map(({ name }) => name),
      },
      cacheFlushed,
      verified: options.verify,
      finite: isFinite,
      checksums,
      durationMs: this.#sync.steps.elapsedMs,
      pausedMs: this.#sync.pausedMs,
      phasesMs: this.#sync.steps.durationsMs,
    };
  }

  async recover(error: Error): Promise<void> {
    if (!this.#sync.touched) return;
    await this.#sync.cleaning;
    await recover({
      // The others serve already when only the lost are left to clean up.
      servers: this.#sync.isPublished
        ? this.#sync.lost.map(({ server }) => server)
        : this.#sync.servers,
      transport: this.#sync.isPublished ? undefined : this.#sync.transport,
      isAlone: !this.#sync.isPublished,
      error,
      versionsBefore: this.#sync.versionsBefore,
      version: this.#sync.version,
      lease: this.#sync.lease,
      options: this.#sync.request.options,
    });
    await this.#sync.bequeathAll((server) => server.paused ? undefined : { holds: "settled" });
  }

  /**
   * The servers that the sync went on without are cleaned up last, so that nobody waits for them. The
   * sync has failed, unless they are gone and the options allow that.
   */
  async #partWithLost(): Promise<void> {
    this.#sync.isPublished = true;
    const { whenUnreachable } = this.#sync.request.options;
    const isAllowed = whenUnreachable === "skip" &&
      this.#sync.lost.every(({ error }) => isGone(error));
    const { phase, error } = this.#sync.lost[0]!;
    const failure = stepFailed(phase, error);
    if (!isAllowed) throw failure;
    await this.recover(failure);
  }

  /** Brings every byte to every server; afterwards each that is left has answered that it took them. */
  async #send(updates: readonly TransportUpdate[]): Promise<void> {
    const { fleet, signal, options } = this.#sync.request;
    const { soleTrainer } = options;
    const isWhole = updates.length === 1 && this.#sync.request.part === undefined;
    const { updateMs: timeoutMs, stragglerMs } = options.deadlines;
    const lease = this.#sync.lease!;
    await this.#sync.bequeathAll(() => this.#sync.someLegacy());
    if (this.#sync.transport!.isolates) {
      const { lost, cleaned } = await sendInLanes({
        clock: options.clock,
        isFatal: isOvertaken,
        write: async (server, phase, update) => {
          if (soleTrainer) return await update();
          // What comes late is refused there, or brings all that the version will say.
          const isSafe = server.isInSession || server.isInGroup || isWhole;
          await lease[isSafe ? "update" : "write"](server, phase, update);
        },
        servers: fleet.participants,
        updates,
        timeoutMs,
        stragglerMs,
        signal,
        step: async (update, work) => {
          await this.#sync.step("update", update.message, work);
          this.#sync.steps.addBytes(update.byteLength);
        },
      });
      this.#sync.cleaning = cleaned;
      for (const one of lost) this.#sync.lose(one);
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
      await this.#sync.step("update", phase, () =>
        update.send({
          phase,
          timeoutMs,
          signal,
          servers,
          whileUpdating: async (server, call) => {
            await confirm();
            const own = known.get(server)!;
            const update = () => own.whileUpdating(place, call);
            await (soleTrainer ? update() : lease.explained(own, phase, update));
          },
        }));
      this.#sync.steps.addBytes(update.byteLength);
    }
  }

  /** Looks at the values while the servers still generate. */
  async #requireFinite(
    open: OpenWeightSource,
    sent: readonly CheckedTensor[],
  ): Promise<{ open: OpenWeightSource; isFinite: boolean }> {
    const { source, signal, options } = this.#sync.request;
    if (options.finite === false) return { open, isFinite: false };
    const sourceIndexes = sent.map(({ sourceIndex }) => sourceIndex);
    const choice = options.finite;
    const transport = this.#sync.transport!;
    const finder = transport.wordFinder?.bind(transport);
    const finite = await this.#sync.step(
      "check",
      "check for NaN and infinities",
      () => requireFinite(source, open, { sourceIndexes, choice, signal, finder }),
    );
    return { open: finite.open, isFinite: finite.isComplete };
  }

  /** What was sent is of one piece only if no file changed before its last byte was read. */
  async #confirmSource(open: OpenWeightSource): Promise<void> {
    const { fleet, source, signal, options } = this.#sync.request;
    const phase = "check that the source is unchanged";
    const wait = { phase, timeoutMs: options.deadlines.sourceMs, peer: source.label, signal };
    try {
      await this.#sync.step(
        "source",
        phase,
        () => withDeadline(wait, async (inner) => await open.confirm?.({ signal: inner })),
      );
    } catch (error) {
      for (const server of fleet.participants) server.distrust();
      throw error;
    }
  }
}
