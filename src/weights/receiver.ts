import type { PauseMode } from "../client/types.ts";
import { SGLangError, StateError, UnreachableError, ValidationError } from "../errors.ts";
import { sleep } from "../internal/deadline.ts";
import { stepFailed } from "./failure.ts";
import { type FleetCall, onAll, onAllSettled, ServerFailure } from "./fleet.ts";
import {
  type ResolvedOptions,
  resolveOptions,
  trimUrl,
  type WeightSyncOptions,
  type WeightWorker,
} from "./options.ts";
import { FleetServer, type WeightServerState } from "./server.ts";
import { resolveWorkers } from "./workers.ts";

/** Where servers join a group. */
export interface ReceiverGroup {
  /** Address that rank 0 listens on, as the servers reach it. */
  readonly masterAddress: string;
  /** Port of its store. */
  readonly masterPort: number;
  /** Name of the group. Default `"weight_update_group"`. */
  readonly groupName?: string | undefined;
  /** Default `"nccl"`. */
  readonly backend?: "nccl" | "gloo" | undefined;
}

/** Tensors that rank 0 is about to broadcast. */
export interface ReceiverUpdate {
  /** Names of the checkpoint, unsharded. */
  readonly names: readonly string[];
  /** Element types by torch's names. */
  readonly dtypes: readonly string[];
  /** Shapes. */
  readonly shapes: readonly (readonly number[])[];
  /** Whether their bytes travel as one broadcast. Default `false`: one for each. */
  readonly flattened?: boolean | undefined;
}

/** Options of a call on all servers. */
export interface ReceiverCall {
  /** Cancels it. */
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for each server, in milliseconds. Default: the deadline of the step. */
  readonly timeoutMs?: number | undefined;
}

const DRAIN_POLL_MS = 100;

/** The servers of a receiver's current sync; for the sender alone. */
export let participantsOf: (receiver: SGLangWeightReceiver) => readonly FleetServer[];
/** A receiver's options with their defaults; for the sender alone. */
export let optionsOf: (receiver: SGLangWeightReceiver) => ResolvedOptions;

/**
 * The servers' side of weight sync: knows the servers and their ranks, and makes all of them do a
 * step together. A step that fails on one server throws an error that names it, within the step's
 * deadline. {@linkcode SGLangWeightSender} drives one; use it alone when rank 0 is another process,
 * such as a Python trainer.
 *
 * Needs `--allow-net` for the servers.
 *
 * @example
 * ```ts
 * import { SGLangWeightReceiver } from "@sglang-rl/sglang-rl";
 *
 * await using receiver = new SGLangWeightReceiver({ workers: ["http://127.0.0.1:30000"] });
 * // await receiver.initGroup({ masterAddress: "10.0.0.1", masterPort: 29500 });
 * ```
 */
export class SGLangWeightReceiver implements AsyncDisposable {
  static {
    participantsOf = (receiver) => receiver.#participants;
    optionsOf = (receiver) => receiver.#options;
  }

  readonly #options: ResolvedOptions;
  readonly #workers: () => readonly WeightWorker[];
  readonly #servers = new Map<string, FleetServer>();
  #participants: readonly FleetServer[] = [];
  #groupName: string | undefined;

  /**
   * Makes a receiver; nothing is sent.
   *
   * @throws {ValidationError} The options are wrong.
   */
  constructor(options: WeightSyncOptions) {
    this.#options = resolveOptions(options);
    this.#workers = resolveWorkers(options);
  }

  /** What is known of every server. */
  get servers(): readonly WeightServerState[] {
    return [...this.#servers.values()].map((server) => server.state);
  }

  /** 1 + the ranks of all servers; known after {@linkcode SGLangWeightReceiver.probe}. */
  get worldSize(): number {
    return this.#participants.reduce((sum, { tpSize }) => sum + tpSize, 1);
  }

  /**
   * Reads what every server is and holds, and hands out the ranks in the servers' order.
   *
   * @throws {ValidationError} `numWorkers` or a `tpSize` is not what the servers tell.
   * @throws {UnsupportedError} A server's parallelism cannot take updates.
   * @throws {WeightSyncError} A server does not answer.
   */
  async probe(call: ReceiverCall = {}): Promise<readonly WeightServerState[]> {
    const workers = this.#workers();
    this.#forgetOthers(new Set(workers.map(({ url }) => trimUrl(url))));
    const servers = workers.map((worker) => this.#serverOf(worker));
    const outcomes = await onAllSettled(
      servers,
      this.#call("probe", this.#options.deadlines.probeMs, call),
      async (server, signal) => {
        await server.probe(signal, workers[servers.indexOf(server)]!.tpSize);
        await server.readVersion(signal);
        server.problem = undefined;
      },
    );
    const failures = outcomes.filter((outcome) => outcome instanceof ServerFailure);
    for (const failure of failures) this.#requireSkippable(failure, call.signal);
    this.#participants = servers.filter((server) =>
      !failures.some((failure) => failure.server === server)
    );
    if (this.#participants.length === 0) throw stepFailed("probe", failures[0]!);
    this.#assignRanks();
    return this.servers;
  }

  /**
   * Lets every server join a group whose rank 0 listens at the master address. It must listen
   * already: a server that finds nobody there blocks for up to 30 minutes.
   */
  async initGroup(group: ReceiverGroup, call: ReceiverCall = {}): Promise<void> {
    await this.#probed(call);
    const groupName = group.groupName ?? "weight_update_group";
    await this.#all("init", this.#options.deadlines.initMs, call, async (server, signal) => {
      server.groups.add(groupName);
      await server.initGroup({
        masterAddress: group.masterAddress,
        masterPort: group.masterPort,
        rankOffset: server.rankOffset,
        worldSize: this.worldSize,
        groupName,
        backend: group.backend ?? "nccl",
      }, signal);
    });
    this.#groupName = groupName;
  }

  /** Opens a session on servers that ask for one (from 0.5.22). */
  async begin(call: ReceiverCall = {}): Promise<void> {
    await this.#probed(call);
    await this.#all("begin", this.#options.deadlines.beginMs, call, async (server, signal) => {
      server.sessionOpen = await server.client.beginWeightUpdate({ signal });
    });
  }

  /**
   * Lets every server receive the tensors that rank 0 broadcasts now. Run it beside the broadcasts
   * and let each end the other: a server that refuses never joins the collective.
   *
   * @throws {StateError} There is no group.
   */
  async update(update: ReceiverUpdate, call: ReceiverCall = {}): Promise<void> {
    const groupName = this.#groupName;
    if (groupName === undefined) throw new StateError("Communication group not initialized");
    await this.#all(
      "update",
      this.#options.deadlines.updateMs,
      call,
      (server, signal) =>
        server.taking({ isFirst: false, isLast: false }, () =>
          server.updateFromDistributed({
            ...update,
            groupName,
            flattened: update.flattened ?? false,
          }, signal)),
    );
  }

  /** Closes the session. */
  async end(call: ReceiverCall = {}): Promise<void> {
    await this.#all("end", this.#options.deadlines.endMs, call, async (server, signal) => {
      if (!server.sessionOpen) return;
      await server.client.endWeightUpdate({ signal });
      server.sessionOpen = false;
    });
  }

  /** Lets every server leave the group; one that does not know it is fine. */
  async destroy(call: ReceiverCall = {}): Promise<void> {
    this.#groupName = undefined;
    await this.#all(
      "destroy",
      this.#options.deadlines.destroyMs,
      call,
      (server, signal) => server.destroyGroups(signal),
    );
  }

  /** Pauses generation on every server. */
  async pause(mode: PauseMode, call: ReceiverCall = {}): Promise<void> {
    await this.#probed(call);
    await this.#all("pause", this.#options.deadlines.pauseMs, call, async (server, signal) => {
      // Set first: a pause whose answer is lost may have come through.
      server.paused = true;
      await server.client.pause(mode, { signal });
    });
  }

  /** Waits until no server runs a request. */
  async drain(call: ReceiverCall = {}): Promise<void> {
    await this.#all("drain", this.#options.deadlines.drainMs, call, async (server, signal) => {
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
    call: ReceiverCall & { readonly waitUntilIdle?: boolean | undefined } = {},
  ): Promise<boolean> {
    await this.#probed(call);
    const timeoutMs = call.timeoutMs ?? this.#options.deadlines.flushMs;
    const flushed = await this.#all("flush", timeoutMs, call, async (server, signal) => {
      // Asked to wait, a server looks again only every 0.3 s; mostly it is idle by now.
      if (await server.client.flushCache({ signal, timeoutMs })) return true;
      if (!server.capabilities.hasFlushTimeout || call.waitUntilIdle === false) return false;
      const waitMs = Math.max(1, Math.floor(timeoutMs / 2000)) * 1000;
      return await server.client.flushCache({ signal, waitMs, timeoutMs });
    });
    return flushed.every((one) => one);
  }

  /** Resumes generation on every server, also on those that missed an update. */
  async resume(call: ReceiverCall = {}): Promise<void> {
    await this.#all("resume", this.#options.deadlines.controlMs, call, async (server, signal) => {
      await server.client.resume({ signal, emptyDeviceCache: true });
      server.paused = false;
    });
  }

  /** Leaves every group, closes sessions and connections. Does not resume anybody. */
  async close(): Promise<void> {
    const servers = [...this.#servers.values()].filter((server) =>
      server.groups.size > 0 || server.sessionOpen
    );
    const { destroyMs } = this.#options.deadlines;
    await onAllSettled(
      servers,
      { phase: "close", timeoutMs: destroyMs },
      async (server, signal) => {
        await server.endSession(signal);
        await server.destroyGroups(signal);
      },
    );
    this.#groupName = undefined;
    for (const server of this.#servers.values()) server.close();
    this.#servers.clear();
    this.#participants = [];
  }

  /** The same as {@linkcode SGLangWeightReceiver.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #probed(call: ReceiverCall): Promise<void> {
    if (this.#participants.length === 0) await this.probe({ signal: call.signal });
  }

  #serverOf(worker: WeightWorker): FleetServer {
    const key = trimUrl(worker.url);
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

  #requireSkippable(failure: ServerFailure, signal: AbortSignal | undefined): void {
    const { cause, server } = failure;
    const isGone = cause instanceof UnreachableError ||
      (cause instanceof SGLangError && cause.code === "timeout");
    if (isGone && !signal?.aborted && this.#options.whenUnreachable === "skip") {
      server.problem = cause.message;
      server.condition = "partial";
      this.#options.logger.warn(`${server.url} is left out of this sync: ${cause.message}`);
      return;
    }
    throw stepFailed("probe", failure);
  }

  #assignRanks(): void {
    let rankOffset = 1;
    for (const server of this.#participants) {
      server.rankOffset = rankOffset;
      rankOffset += server.tpSize;
    }
    const { numWorkers } = this.#options;
    if (numWorkers === undefined || numWorkers === this.worldSize - 1) return;
    const ranks = this.#participants.map(({ url, tpSize }) => `${url}: ${tpSize}`).join(", ");
    throw new ValidationError(
      `numWorkers is ${numWorkers}, but the servers have ${this.worldSize - 1} ranks (${ranks})`,
    );
  }

  async #all<T>(
    phase: string,
    timeoutMs: number,
    call: ReceiverCall,
    work: (server: FleetServer, signal: AbortSignal) => Promise<T>,
  ): Promise<T[]> {
    try {
      return await onAll(this.#participants, this.#call(phase, timeoutMs, call), work);
    } catch (error) {
      throw stepFailed(phase, error);
    }
  }

  #call(phase: string, timeoutMs: number, call: ReceiverCall): FleetCall {
    return { phase, timeoutMs: call.timeoutMs ?? timeoutMs, signal: call.signal };
  }
}
