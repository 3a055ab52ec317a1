import { SyncOvertakenError } from "../../errors.ts";
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
  #beat = 0;
  #refreshing: Promise<void> | undefined;

  /** Makes it; nothing is claimed yet. */
  constructor(options: LeaseOptions) {
    this.#options = options;
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
    const before = servers.map(({ weightVersion }) => weightVersion);
    const foreign = await foreignMarks(servers, owner, call);
    // A sync that ran meanwhile has resumed the servers and used up a version.
    const hasChanged = servers.some(({ weightVersion }, i) => weightVersion !== before[i]);
    if (hasChanged || ![...foreign].every((other) => dead.has(other))) return false;
    for (;;) {
      const mark = this.#nextMark();
      await onAll(servers, call, (server, signal) => server.mark(mark, signal));
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
        if (!this.isOurs(version)) throw this.#overtaken(server, version, phase);
      });
      // A process that was stopped in between was told what was true before.
      if (clock.now() - from <= FRESH_MS) return;
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

  #nextMark(): Mark {
    return updatingMark(this.#options.owner, ++this.#beat, this.#options.version);
  }

  async #refresh(): Promise<void> {
    const { servers, clock, controlMs } = this.#options;
    const { signal } = this.#stop;
    for (;;) {
      await sleep(REFRESH_MS, { signal, clock }).catch(() => {});
      if (signal.aborted) return;
      const mark = this.#nextMark();
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
        if (isOurs && isFresh && server.marked && !signal.aborted) await server.mark(mark, inner);
      });
    }
  }

  #overtaken(server: FleetServer, version: string | null, phase: string): SyncOvertakenError {
    server.yieldTo(version);
    return new SyncOvertakenError(
      `Another trainer writes to the server: its weight version is ${
        JSON.stringify(version)
      }, where ` +
        `our mark was. One trainer at a time may sync a fleet; this one was counted as dead, or the ` +
        `other does not wait for its turn`,
      { phase, server: server.url, other: otherOf(version), found: version },
    );
  }

  #call(phase: string): FleetCall {
    const { controlMs, stragglerMs, signal } = this.#options;
    return { phase, timeoutMs: controlMs, stragglerMs, signal };
  }
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
