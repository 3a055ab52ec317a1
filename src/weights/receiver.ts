import type { PauseMode } from "../client/types.ts";
import { StateError } from "../errors.ts";
import { Fleet, type ReceiverCall, resolveWorkers } from "./fleet/fleet.ts";
import { BEYOND_ANY_STEP_MS } from "./fleet/on_all.ts";
import type { WeightServerState } from "./fleet/server.ts";
import { type ResolvedOptions, resolveOptions } from "./resolved_options.ts";
import type { WeightSyncOptions } from "./options.ts";

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

/** The servers behind a receiver; for the sender alone. */
export let fleetOf: (receiver: SGLangWeightReceiver) => Fleet;
/** What a receiver was given; for the sender alone. */
export let givenTo: (receiver: SGLangWeightReceiver) => WeightSyncOptions;
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
    fleetOf = (receiver) => receiver.#fleet;
    optionsOf = (receiver) => receiver.#options;
    givenTo = (receiver) => receiver.#given;
  }

  readonly #given: WeightSyncOptions;
  readonly #options: ResolvedOptions;
  readonly #fleet: Fleet;
  #groupName: string | undefined;

  /**
   * Makes a receiver; nothing is sent.
   *
   * @throws {ValidationError} The options are wrong.
   */
  constructor(options: WeightSyncOptions) {
    this.#given = options;
    this.#options = resolveOptions(options);
    this.#fleet = new Fleet(this.#options, resolveWorkers(options));
  }

  /** What is known of every server. */
  get servers(): readonly WeightServerState[] {
    return this.#fleet.states;
  }

  /** 1 + the ranks of all servers; known after {@linkcode SGLangWeightReceiver.probe}. */
  get worldSize(): number {
    return this.#fleet.worldSize;
  }

  /**
   * Reads what every server is and holds, and hands out the ranks in the servers' order.
   *
   * @throws {ValidationError} `numWorkers` or a `tpSize` is not what the servers tell.
   * @throws {UnsupportedError} A server's parallelism cannot take updates.
   * @throws {WeightSyncError} A server does not answer.
   */
  async probe(call: ReceiverCall = {}): Promise<readonly WeightServerState[]> {
    await this.#fleet.probe(call);
    return this.servers;
  }

  /**
   * Lets every server join a group whose rank 0 listens at the master address. It must listen
   * already: a server that finds nobody there blocks for up to 30 minutes.
   */
  async initGroup(group: ReceiverGroup, call: ReceiverCall = {}): Promise<void> {
    const { masterAddress, masterPort, backend = "nccl" } = group;
    const groupName = group.groupName ?? "weight_update_group";
    await this.#fleet.probed(call);
    const { worldSize } = this;
    const joined = { masterAddress, masterPort, worldSize, groupName, backend };
    await this.#fleet.each(
      "init",
      "initMs",
      call,
      (server, signal) => server.joinGroup(joined, signal),
    );
    this.#groupName = groupName;
  }

  /** Opens a session on servers that ask for one (from 0.5.22). */
  async begin(call: ReceiverCall = {}): Promise<void> {
    await this.#fleet.probed(call);
    await this.#fleet.each(
      "begin",
      "beginMs",
      call,
      (server, signal) => server.openSession(signal),
    );
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
    const { flattened, ...body } = { ...update, groupName };
    const loadFormat = flattened ? "flattened_bucket" : undefined;
    const place = { isFirst: false, isLast: false };
    await this.#fleet.each(
      "update",
      "updateMs",
      call,
      (server, signal) =>
        server.whileUpdating(place, async () => {
          await server.client.updateWeightsFromDistributed(body, {
            signal,
            timeoutMs: BEYOND_ANY_STEP_MS,
            loadFormat,
            selector: server.selector,
          });
        }),
    );
  }

  /** Closes the session. */
  async end(call: ReceiverCall = {}): Promise<void> {
    await this.#fleet.closeSessions(call);
  }

  /** Lets every server leave the group; one that does not know it is fine. */
  async destroy(call: ReceiverCall = {}): Promise<void> {
    this.#groupName = undefined;
    await this.#fleet.each(
      "destroy",
      "destroyMs",
      call,
      (server, signal) => server.leaveGroups(signal),
    );
  }

  /** Pauses generation on every server. */
  async pause(mode: PauseMode, call: ReceiverCall = {}): Promise<void> {
    await this.#fleet.probed(call);
    await this.#fleet.pause(mode, call);
  }

  /** Waits until no server runs a request. */
  async drain(call: ReceiverCall = {}): Promise<void> {
    await this.#fleet.drain(call);
  }

  /**
   * Empties every prefix cache; `false` when a server is too busy for it.
   *
   * @param call `waitUntilIdle`: give requests time to end (servers from 0.5.10). Default true.
   */
  async flushCache(
    call: ReceiverCall & { readonly waitUntilIdle?: boolean | undefined } = {},
  ): Promise<boolean> {
    await this.#fleet.probed(call);
    return await this.#fleet.flushCache(call);
  }

  /** Resumes generation on every server, also on those that missed an update. */
  async resume(call: ReceiverCall = {}): Promise<void> {
    await this.#fleet.resume(call);
  }

  /** Leaves every group, closes sessions and connections. Does not resume anybody. */
  async close(): Promise<void> {
    this.#groupName = undefined;
    await this.#fleet.close();
  }

  /** The same as {@linkcode SGLangWeightReceiver.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
