import type { PauseMode } from "../../client/types.ts";
import { ValidationError } from "../../errors.ts";
import { sleep } from "../../internal/deadline.ts";
import { canonicalUrl } from "../../internal/canonical_url.ts";
import { messageOf } from "../../internal/thrown.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import type { WeightDeadlines } from "../deadlines.ts";
import type { GivenOptions, WeightWorker } from "../options.ts";
import { isGone, stepFailed } from "../sync/failure.ts";
import { type FleetCall, onAll, onAllSettled, ServerFailure } from "./on_all.ts";
import { FleetServer, type WeightServerState } from "./server.ts";

/** Options of a call on all servers. */
export interface ReceiverCall {
  /** Cancels it. */
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for each server, in milliseconds. Default: the deadline of the step. */
  readonly timeoutMs?: number | undefined;
}

const DRAIN_POLL_MS = 100;
/** How long a server may be behind others in cleaning up. */
export const LATE_MS = 2_000;

/**
 * The servers that weights go to: which take part in the current sync, which ranks they have, and
 * how a step is done on all of them.
 */
export class Fleet {
  readonly #options: ResolvedOptions;
  readonly #workers: () => readonly WeightWorker[];
  readonly #servers = new Map<string, FleetServer>();
  #participants: readonly FleetServer[] = [];

  /** Makes it; nobody is contacted. */
  constructor(options: ResolvedOptions, workers: () => readonly WeightWorker[]) {
    this.#options = options;
    this.#workers = workers;
  }

  /** What is known of every server. */
  get states(): readonly WeightServerState[] {
    return [...this.#servers.values()].map((server) => server.state);
  }

  /** The servers of the current sync, in the order of their ranks. */
  get participants(): readonly FleetServer[] {
    return this.#participants;
  }

  /** Addresses of the servers that the current sync goes on without. */
  get leftOut(): string[] {
    return [...this.#servers.values()]
      .filter((server) => !this.#participants.includes(server))
      .map(({ url }) => url);
  }

  /** 1 + the ranks of all participants. */
  get worldSize(): number {
    return worldSizeOf(this.#participants);
  }

  /** Reads what every server is and holds, and hands out the ranks in the servers' order. */
  async probe(call: ReceiverCall): Promise<void> {
    const workers = this.#workers();
    this.#forgetOthers(new Set(workers.map(({ url }) => canonicalUrl(url))));
    const servers = workers.map((worker) => this.#serverOf(worker));
    const outcomes = await onAllSettled(
      servers,
      callOf("probe", this.#options.deadlines.probeMs, call),
      (server, signal) => server.probe(signal, workers[servers.indexOf(server)]!.tpSize),
    );
    this.#participants = servers.filter((server, i) => {
      const outcome = outcomes[i];
      if (outcome instanceof ServerFailure) this.#leaveOut(server, outcome, call.signal);
      return !(outcome instanceof ServerFailure);
    });
    if (this.#participants.length === 0) throw stepFailed("probe", outcomes[0], "probe");
    assignRanks(this.#participants);
    this.#requireRanks();
  }

  /**
   * Refuses servers that cannot take updates in this way, before anything is sent.
   *
   * @throws {UnsupportedError} Names the server and the way that works.
   */
  requireFit(transport: string): void {
    for (const server of this.#participants) server.requireFit(transport);
  }

  /** The current sync goes on without a server. */
  drop(server: FleetServer): void {
    this.#participants = this.#participants.filter((one) => one !== server);
  }

  /** Probes, unless that was done. */
  async probed(call: ReceiverCall): Promise<void> {
    if (this.#participants.length === 0) await this.probe({ signal: call.signal });
  }

  /** Does a step on every participant at once; a failure names step and server. */
  async each<T>(
    phase: string,
    deadline: keyof WeightDeadlines,
    call: ReceiverCall,
    work: (server: FleetServer, signal: AbortSignal) => Promise<T>,
  ): Promise<T[]> {
    const timeoutMs = this.#options.deadlines[deadline];
    const { stragglerMs } = this.#options.deadlines;
    try {
      return await onAll(
        this.#participants,
        { ...callOf(phase, timeoutMs, call), stragglerMs },
        work,
      );
    } catch (error) {
      throw stepFailed(phase, error);
    }
  }

  /** Pauses generation. */
  async pause(mode: PauseMode, call: ReceiverCall): Promise<void> {
    await this.each("pause", "pauseMs", call, (server, signal) => server.pause(mode, signal));
  }

  /** Waits until no server runs a request. */
  async drain(call: ReceiverCall): Promise<void> {
    await this.each("drain", "drainMs", call, async (server, signal) => {
      if (server.isEmptied) return;
      while ((await server.client.load({ signal })).running > 0) {
        await sleep(DRAIN_POLL_MS, { signal, phase: "drain" });
      }
    });
  }

  /**
   * Empties every prefix cache; `false` when a server is too busy for it.
   *
   * @param call `waitUntilIdle`: give requests time to end (servers from 0.5.10). Default true.
   */
  async flushCache(
    call: ReceiverCall & { readonly waitUntilIdle?: boolean | undefined },
  ): Promise<boolean> {
    const timeoutMs = call.timeoutMs ?? this.#options.deadlines.flushMs;
    const flushed = await this.each(
      "flush",
      "flushMs",
      { ...call, timeoutMs },
      async (server, signal) => {
        if (server.isEmptied) return await server.flushEmptied(signal, timeoutMs);
        // Asked to wait, a server looks again only every 0.3 s; mostly it is idle by now.
        if (await server.client.flushCache({ signal, timeoutMs })) return true;
        if (!server.capabilities.hasFlushTimeout || call.waitUntilIdle === false) return false;
        const waitMs = Math.max(1, Math.floor(timeoutMs / 2000)) * 1000;
        return await server.client.flushCache({ signal, waitMs, timeoutMs });
      },
    );
    return flushed.every((one) => one);
  }

  /** Closes the sessions. */
  async closeSessions(call: ReceiverCall): Promise<void> {
    await this.each("end", "endMs", call, (server, signal) => server.closeSession(signal));
  }

  /** Resumes generation, also on those that missed an update. */
  async resume(call: ReceiverCall): Promise<void> {
    await this.each("resume", "controlMs", call, (server, signal) => server.resume(signal));
  }

  /** Leaves every group, closes sessions and connections. Does not resume anybody. */
  async close(): Promise<void> {
    const servers = [...this.#servers.values()].filter((server) =>
      server.isInGroup || server.isInSession
    );
    const { destroyMs } = this.#options.deadlines;
    await onAllSettled(
      servers,
      { phase: "close", timeoutMs: destroyMs },
      async (server, signal) => {
        await server.dropSession(signal);
        await server.leaveGroups(signal);
      },
    );
    for (const server of this.#servers.values()) server.close();
    this.#servers.clear();
    this.#participants = [];
  }

  #serverOf(worker: WeightWorker): FleetServer {
    const key = canonicalUrl(worker.url);
    const known = this.#servers.get(key);
    const isSame = worker.client === undefined || known?.client === worker.client;
    if (known !== undefined && isSame) return known;
    known?.close();
    const server = new FleetServer(worker, this.#options);
    this.#servers.set(key, server);
    return server;
  }

  #forgetOthers(urls: ReadonlySet<string>): void {
    for (const [url, server] of this.#servers) {
      if (urls.has(url)) continue;
      server.close();
      this.#servers.delete(url);
    }
  }

  /** Goes on without a server that is gone, where the options allow it. */
  #leaveOut(server: FleetServer, failure: ServerFailure, signal: AbortSignal | undefined): void {
    const { cause } = failure;
    if (isGone(cause) && !signal?.aborted && this.#options.whenUnreachable === "skip") {
      server.leaveOut(messageOf(cause));
      this.#options.logger.warn(`${server.url} is left out of this sync: ${messageOf(cause)}`);
      return;
    }
    throw stepFailed("probe", failure, "probe");
  }

  #requireRanks(): void {
    const { numWorkers } = this.#options;
    if (numWorkers === undefined || numWorkers === this.worldSize - 1) return;
    const ranks = this.#participants.map(({ url, tpSize }) => `${url}: ${tpSize}`).join(", ");
    throw new ValidationError(
      `numWorkers is ${numWorkers}, but the servers have ${this.worldSize - 1} ranks (${ranks})`,
    );
  }
}

/** Hands out the ranks of a group to servers, in their order; rank 0 is the sender. */
function assignRanks(servers: readonly FleetServer[]): void {
  let rankOffset = 1;
  for (const server of servers) {
    server.assignRank(rankOffset);
    rankOffset += server.tpSize;
  }
}

/** 1 + the ranks of servers. */
export function worldSizeOf(servers: readonly { readonly tpSize: number }[]): number {
  return servers.reduce((sum, { tpSize }) => sum + tpSize, 1);
}

function callOf(phase: string, timeoutMs: number, call: ReceiverCall): FleetCall {
  return { phase, timeoutMs: call.timeoutMs ?? timeoutMs, signal: call.signal };
}

type LeavingServer = Pick<FleetServer, "url" | "leaveGroups" | "note">;

/** Removes every group of ours from the servers; a server that does not answer is only logged. */
export async function leaveGroups(
  servers: readonly LeavingServer[],
  options: Pick<ResolvedOptions, "deadlines" | "logger">,
): Promise<void> {
  const { destroyMs: timeoutMs, stragglerMs } = options.deadlines;
  const call = { phase: "destroy", timeoutMs, stragglerMs: Math.min(LATE_MS, stragglerMs) };
  const outcomes = await onAllSettled(
    servers,
    call,
    (server, signal) => server.leaveGroups(signal),
  );
  outcomes.forEach((outcome, i) => {
    if (!(outcome instanceof Error)) return;
    servers[i]!.note(`did not leave the group: ${outcome.message}`);
    options.logger.warn(`A group was not destroyed: ${outcome.message}`);
  });
}

/** How to list the servers of the options; an engine is asked again each time. */
export function resolveWorkers(
  options: Pick<GivenOptions, "serverUrl" | "engine" | "workers">,
): () => readonly WeightWorker[] {
  const { serverUrl, engine, workers } = options;
  const given = [serverUrl, engine, workers].filter((one) => one !== undefined).length;
  if (given !== 1) {
    throw new ValidationError(
      `Give the servers as exactly one of serverUrl, engine and workers, got ${given} of them`,
    );
  }
  if (engine !== undefined) {
    return () => requireDistinct(engine.syncWorkers ?? engine.workers, "The engine");
  }
  const list = (workers ?? [serverUrl!]).map((worker) =>
    typeof worker === "string" ? { url: worker } : worker
  );
  const checked = requireDistinct(list, "workers");
  return () => checked;
}

function requireDistinct(workers: readonly WeightWorker[], what: string): readonly WeightWorker[] {
  if (workers.length === 0) throw new ValidationError(`${what} lists no server`);
  const urls = new Set<string>();
  for (const { url } of workers) {
    const key = canonicalUrl(url);
    if (!URL.canParse(key)) {
      throw new ValidationError(
        `A server's address must be a URL such as "http://127.0.0.1:30000", got "${url}"`,
      );
    }
    if (urls.has(key)) throw new ValidationError(`${what} lists ${key} twice`);
    urls.add(key);
  }
  return workers;
}
