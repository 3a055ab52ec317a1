import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { StateError, ValidationError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { orAborted } from "../../internal/or_aborted.ts";
import { asError } from "../../internal/thrown.ts";
import { TCPStoreClient } from "../../rendezvous/mod.ts";
import { Mesh } from "./mesh.ts";
import { GRACE_MS } from "./pair.ts";
import { childrenOf, parentOf } from "./tree.ts";
import { broadcastSlot, rankKey } from "./wire.ts";

/** Which group to join, with the fields of SGLang's `/init_weights_update_group`. */
export interface JoinGlooOptions {
  /** Address of rank 0's store. */
  readonly masterAddress: string;
  /** Port of rank 0's store. */
  readonly masterPort: number;
  /** Name of the group. */
  readonly groupName: string;
  /** Own rank, from 1 to `worldSize - 1`. */
  readonly rank: number;
  /** Number of ranks, rank 0 included. */
  readonly worldSize: number;
  /** Address to listen on. Default: the one from which the store is reached. */
  readonly bindAddress?: string | undefined;
  /** Cancels joining. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline for all ranks to be there, in milliseconds. Default 60 s. */
  readonly timeoutMs?: number | undefined;
}

const NAMES = {
  masterAddress: true,
  masterPort: true,
  groupName: true,
  rank: true,
  worldSize: true,
  bindAddress: true,
  signal: true,
  timeoutMs: true,
} as const satisfies OptionNames<JoinGlooOptions>;

const JOIN_TIMEOUT_MS = 60_000;

/**
 * A rank other than 0 of a gloo group: it receives what rank 0 broadcasts and passes it on along
 * gloo's tree. Rank 0 and the other ranks may be torch processes or TypeScript.
 *
 * Needs `--allow-net` for the store's address and the addresses of the other ranks.
 */
export class GlooPeer implements AsyncDisposable {
  /** Own rank. */
  readonly rank: number;
  /** Number of ranks. */
  readonly worldSize: number;
  /** Name of the group. */
  readonly groupName: string;
  readonly #mesh: Mesh;
  readonly #store: TCPStoreClient;
  readonly #children: readonly number[];
  #tag = 0;
  #failure: Error | undefined;

  private constructor(options: JoinGlooOptions, mesh: Mesh, store: TCPStoreClient) {
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.groupName = options.groupName;
    this.#mesh = mesh;
    this.#store = store;
    this.#children = childrenOf(options.rank, options.worldSize);
  }

  /**
   * Joins a group; resolves when this rank is connected with all others.
   *
   * @throws {ValidationError} For a rank outside of the world.
   * @throws {TimeoutError} Says how many ranks came.
   * @throws {AbortedError} When the signal fires.
   * @throws {UnreachableError} When the store or a rank cannot be reached.
   */
  static async join(options: JoinGlooOptions): Promise<GlooPeer> {
    checkOptionNames(options, NAMES, "GlooPeer.join()");
    const { rank, worldSize, timeoutMs = JOIN_TIMEOUT_MS } = options;
    if (!Number.isSafeInteger(rank) || rank < 1 || rank >= worldSize) {
      throw new ValidationError(`rank is ${rank}; in a world of ${worldSize} it is 1 or more`);
    }
    let heard = "nothing from the store";
    return await withDeadline({
      phase: "join gloo group",
      timeoutMs,
      signal: options.signal,
      peer: `rank 0 at ${options.masterAddress}:${options.masterPort}`,
      lastHeard: () => heard,
    }, (signal) => GlooPeer.#join(options, signal, (text) => heard = text));
  }

  static async #join(
    options: JoinGlooOptions,
    signal: AbortSignal,
    onProgress: (text: string) => void,
  ): Promise<GlooPeer> {
    const { masterAddress, masterPort, groupName, rank, worldSize } = options;
    const store = await TCPStoreClient.connect({
      hostname: masterAddress,
      port: masterPort,
      // The group's keys are given as they go over the wire.
      keyPrefix: "",
      signal,
      timeoutMs: Infinity,
    });
    let mesh: Mesh | undefined;
    try {
      onProgress("the store answers");
      const bindAddress = options.bindAddress ?? store.localHostname;
      mesh = new Mesh({ rank, worldSize, bindAddress, publishedIp: bindAddress });
      await store.join({ signal, timeoutMs: Infinity });
      await store.set(rankKey(groupName, rank), mesh.rankInfo, { signal, timeoutMs: Infinity });
      let known = 0;
      await mesh.connect(async (other, inner) => {
        const info = await store.get(rankKey(groupName, other), {
          signal: inner,
          timeoutMs: Infinity,
        });
        onProgress(`${++known} of ${worldSize - 1} other ranks are in the store`);
        return info;
      }, signal);
      return new GlooPeer(options, mesh, store);
    } catch (error) {
      await mesh?.end(new StateError("gloo: joining failed"), 0);
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Why this rank can take part in no further broadcast, when it cannot. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /**
   * Takes part in the next broadcast: fills `target` with what rank 0 sends, which must be exactly
   * as long, and passes it on. Several may be under way; they are matched in call order.
   *
   * When it fails, or `signal` fires (which rejects with its reason), this rank leaves the group: a
   * collective cannot be taken back, and those who wait for this rank must not wait for good. That
   * other ranks leave is no failure, as they may be done before this one.
   */
  async receive(target: Uint8Array, options: { signal?: AbortSignal } = {}): Promise<void> {
    const { signal = new AbortController().signal } = options;
    signal.throwIfAborted();
    if (this.#failure !== undefined) throw this.#failure;
    try {
      await orAborted(this.#receive(broadcastSlot(this.#tag++), target), signal);
    } catch (error) {
      await this.#end(signal.aborted ? new StateError("gloo: a receive was aborted") : error);
      throw error;
    }
  }

  async #receive(slot: bigint, target: Uint8Array): Promise<void> {
    await this.#mesh.pair(parentOf(this.rank)).receive(slot, target);
    await Promise.all(this.#children.map((rank) => this.#mesh.pair(rank).send(slot, target)));
  }

  async #end(reason: unknown): Promise<void> {
    const error = asError(reason);
    this.#failure ??= error;
    await Promise.all([this.#mesh.end(error, GRACE_MS), this.#store[Symbol.asyncDispose]()]);
  }

  /** Leaves the group. Never rejects. */
  async close(): Promise<void> {
    await this.#end(new StateError(`gloo: rank ${this.rank} left ${this.groupName}`));
  }

  /** Leaves the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
