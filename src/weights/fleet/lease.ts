import { HttpError, SyncOvertakenError } from "../../errors.ts";
import type { Clock } from "../../internal/clock.ts";
import { sleep } from "../../internal/deadline.ts";
import type { Logger } from "../../internal/logger.ts";
import { type Mark, ownerOf, updatingMark } from "./mark.ts";
import { type FleetCall, onAll, onAllSettled } from "./on_all.ts";
import type { FleetServer } from "./server.ts";

/** Pause between two refreshes of our marks. */
export const REFRESH_MS = 1000;
/** Longest time between reading that a mark is ours and writing it again. */
const FRESH_MS = 1000;
/** A mark that took this long to write may hide another's whole sync. */
const LATE_MS = 3 * REFRESH_MS;
/** A server that is always that slow is believed all the same. */
const MOST_READS = 3;
/** Longer than a read and a write of a version take. */
const OVERLAP_MS = 30;

/** Who claims servers, and for what. */
export interface LeaseOptions {
  /** The servers. */
  readonly servers: readonly FleetServer[];
  /** Our name, which others read. */
  readonly owner: string;
  /** The version that the servers shall have. */
  readonly version: string;
  /** Longest wait for each server. */
  readonly controlMs: number;
  /** Longest wait for a server once the others are done. */
  readonly stragglerMs: number;
  /** How long our mark may stay the same until others count us as dead. */
  readonly patienceMs: number;
  readonly signal: AbortSignal | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Our right to write to servers: a mark in place of their weight version, written again every second
 * with another number, so that others see that we live, and read before each write, so that we see
 * when it is not ours any more. Servers offer no lock; this is as near to one as they let us come.
 */
export class Lease {
  readonly #options: LeaseOptions;
  readonly #stop = new AbortController();
  readonly #dropped = new Set<FleetServer>();
  /** When the last refresh of a server's mark was sent, after it had been read as ours. */
  readonly #refreshedAt = new Map<FleetServer, number>();
  #version: string;
  #isLate = false;
  #beat = 0;
  #refreshing: Promise<void> | undefined;

  /** Makes it; nothing is claimed yet. */
  constructor(options: LeaseOptions) {
    this.#options = options;
    this.#version = options.version;
  }

  /**
   * Whether our mark may have come late enough to hide another's sync: what that called its weights
   * is not known then.
   */
  get isLate(): boolean {
    return this.#isLate;
  }

  /** Says another version in marks from now on. */
  set version(version: string) {
    this.#version = version;
  }

  /**
   * Leaves our mark on every server. `false`: another trainer is first, which must be waited for.
   *
   * A mark is read again after the time that another's read and write could overlap with its own; of
   * two that met, the one with the smaller name goes on.
   *
   * @param dead Marks of trainers that are counted as dead.
   * @param isSole Whether nobody else is expected to leave a mark meanwhile.
   */
  async claim(dead: ReadonlySet<Mark>, isSole: boolean): Promise<boolean> {
    const { servers, owner, clock } = this.#options;
    const call = this.#call("mark");
    const from = clock.now();
    const before = servers.map(({ weightVersion }) => weightVersion);
    const foreign = await foreignMarks(servers, owner, call);
    // A sync that ran meanwhile has resumed the servers and used up a version.
    const hasChanged = servers.some(({ weightVersion }, i) => weightVersion !== before[i]);
    if (hasChanged || ![...foreign].every((other) => dead.has(other))) return false;
    for (;;) {
      const markFor = this.#nextMark();
      await onAll(servers, call, (server, signal) => server.mark(markFor(server), signal));
      this.#isLate ||= clock.now() - from > LATE_MS;
      if (isSole) break;
      await sleep(OVERLAP_MS, { signal: call.signal, phase: call.phase, clock });
      const others = await foreignMarks(servers, owner, call);
      if (others.size === 0) break;
      if ([...others].some((other) => ownerOf(other)! < owner)) {
        for (const server of servers) server.standBack();
        return false;
      }
    }
    this.#refreshing = this.#refresh();
    return true;
  }

  /** Refreshes the mark of a server no more. */
  drop(server: FleetServer): void {
    this.#dropped.add(server);
  }

  /**
   * Requires our mark on servers; all of them by default.
   *
   * @throws {SyncOvertakenError} A server bears something else: it is another's now.
   */
  async confirm(
    phase: string,
    servers: readonly FleetServer[] = this.#options.servers,
  ): Promise<void> {
    const { clock } = this.#options;
    for (let read = 0; read < MOST_READS; read++) {
      const from = clock.now();
      await onAll(servers, this.#call(phase), async (server, signal) => {
        const version = await server.readVersion(signal);
        if (!this.isOurs(version)) throw overtaken(server, version, phase);
      });
      // A process that was stopped in between was told what was true before.
      if (clock.now() - from <= FRESH_MS) return;
    }
  }

  /**
   * Writes to a server, with our mark on it right before.
   *
   * A process that was stopped between the two may have been overtaken meanwhile. A write that came
   * through so late is not trusted: what the server tells then may be our own words over another's
   * weights.
   *
   * @throws {SyncOvertakenError} The server is another's now, or may be.
   */
  async write(server: FleetServer, phase: string, work: () => Promise<void>): Promise<void> {
    const { clock, patienceMs } = this.#options;
    const from = clock.now();
    await this.update(server, phase, work);
    const since = clock.now() - Math.max(from, this.#refreshedAt.get(server) ?? from);
    if (since > patienceMs) throw this.#doubted(server, phase, since);
  }

  /** Writes to a server that refuses what comes late; else as {@linkcode Lease.write}. */
  async update(server: FleetServer, phase: string, work: () => Promise<void>): Promise<void> {
    await this.confirm(phase, [server]);
    await this.explained(server, phase, work);
  }

  /**
   * A server that refuses a write may do so because it is another's.
   *
   * @throws {SyncOvertakenError} It is; else what it said.
   */
  async explained(server: FleetServer, phase: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof HttpError) await this.confirm(phase, [server]);
      throw error;
    }
  }

  /** Whether a version is our mark. */
  isOurs(version: string | null): boolean {
    return version !== null && ownerOf(version) === this.#options.owner;
  }

  /** Ends the refreshing; afterwards no write of ours is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#refreshing;
  }

  #nextMark(): (server: FleetServer) => Mark {
    const { owner } = this.#options;
    const version = this.#version;
    const beat = ++this.#beat;
    return ({ groupNames: groups }) => updatingMark({ owner, beat, groups, version });
  }

  async #refresh(): Promise<void> {
    const { servers, clock, controlMs } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      await sleep(REFRESH_MS, { signal, clock }).catch(() => {});
      if (signal.aborted) return;
      const markFor = this.#nextMark();
      // A server that does not answer in time keeps its last mark; whoever writes to it will notice.
      // Not cut off by our end: a write that is under way could come after the version.
      const call = { phase: "refresh the mark", timeoutMs: controlMs, stragglerMs: REFRESH_MS };
      const kept = servers.filter((server) => !this.#dropped.has(server));
      await onAllSettled(kept, call, async (server, inner) => {
        if (!server.marked) return;
        const from = clock.now();
        const isOurs = this.isOurs(await server.readVersion(inner));
        // A process that was stopped in between must not write over what came meanwhile.
        const isFresh = clock.now() - from <= FRESH_MS;
        if (!isOurs || !isFresh || !server.marked || signal.aborted) return;
        const sentAt = clock.now();
        await server.mark(markFor(server), inner);
        this.#refreshedAt.set(server, sentAt);
      });
    }
  }

  #doubted(server: FleetServer, phase: string, since: number): SyncOvertakenError {
    server.distrust();
    const { patienceMs } = this.#options;
    return new SyncOvertakenError(
      `Another trainer may have written to the server meanwhile: this process, or its way to the ` +
        `server, stood still for ${
          Math.round(since)
        } ms, and a trainer whose mark stays the same ` +
        `for ${patienceMs} ms counts as dead. The next sync repairs it`,
      { phase, server: server.url, other: "unknown", found: server.weightVersion },
    );
  }

  #call(phase: string): FleetCall {
    const { controlMs, stragglerMs, signal } = this.#options;
    return { phase, timeoutMs: controlMs, stragglerMs, signal };
  }
}

/** Leaves a server to whoever wrote a version to it; returns the error that says so. */
export function overtaken(
  server: FleetServer,
  version: string | null,
  phase: string,
  cause?: unknown,
): SyncOvertakenError {
  server.yieldTo(version);
  return new SyncOvertakenError(
    `Another trainer writes to the server: its weight version is ${
      JSON.stringify(version)
    }, where ` +
      `our mark was. One trainer at a time may sync a fleet; this one was counted as dead, or the ` +
      `other does not wait for its turn`,
    { phase, server: server.url, other: otherOf(version), found: version, cause },
  );
}

/** Who left a version: the owner of a mark, else the version itself. */
function otherOf(version: string | null): string {
  return (version === null ? undefined : ownerOf(version)) ?? `version ${JSON.stringify(version)}`;
}

/** The marks of other trainers' running syncs. */
export async function foreignMarks(
  servers: readonly FleetServer[],
  owner: string,
  call: FleetCall,
): Promise<ReadonlySet<Mark>> {
  const versions = await onAll(servers, call, (server, signal) => server.readVersion(signal));
  return new Set(versions.filter((version): version is Mark => {
    const other = version === null ? undefined : ownerOf(version);
    return other !== undefined && other !== owner;
  }));
}
