import { checkOptionNames } from "../../internal/option_names.ts";
import { isIP } from "node:net";
import { SGLangError, StateError, ValidationError } from "../../errors.ts";
import { orAborted } from "../../internal/or_aborted.ts";
import { TCPStoreServer } from "../../rendezvous/mod.ts";
import {
  type BroadcastPart,
  type CollectiveGroup,
  OPEN_GROUP_NAMES,
  type OpenGroupOptions,
  type TransportCall,
} from "../group.ts";
import { isUnspecified, parseIp, resolveHost } from "./address.ts";
import { Mesh } from "./mesh.ts";
import { GRACE_MS } from "./pair.ts";
import { childrenOf } from "./tree.ts";
import { broadcastSlot, rankKey } from "./wire.ts";

/**
 * Rank 0 of a `torch.distributed` gloo group, in TypeScript alone: the servers' ranks (SGLang with
 * `backend: "gloo"`) receive broadcasts of CPU tensors from it.
 *
 * Float8 tensors cannot be received one by one by torch's gloo; send them within a flattened bucket.
 *
 * Needs `--allow-net` for the master address and for the addresses of the servers' ranks, whose
 * ports differ every time.
 */
export class GlooGroup implements CollectiveGroup {
  readonly backend = "gloo";
  readonly masterAddress: string;
  readonly groupName: string;
  readonly worldSize: number;
  readonly #store: TCPStoreServer;
  readonly #mesh: Mesh;
  readonly #children: readonly number[];
  #tag = 0;
  #connected = false;

  private constructor(options: OpenGroupOptions, store: TCPStoreServer, mesh: Mesh) {
    this.masterAddress = options.masterAddress;
    this.groupName = options.groupName;
    this.worldSize = options.worldSize;
    this.#store = store;
    this.#mesh = mesh;
    this.#children = childrenOf(0, options.worldSize);
  }

  /**
   * Listens at the master address, where the servers' ranks find the others' addresses, and on one
   * more port for the payloads. Contacts nobody.
   *
   * @throws {ValidationError} For a world of less than 2 or a listening address that nobody can
   *   connect to.
   * @throws {UnreachableError} When an address cannot be listened on.
   * @throws {PermissionError} Without `--allow-net`.
   */
  static async open(options: OpenGroupOptions, call: TransportCall): Promise<GlooGroup> {
    checkOptionNames(options, OPEN_GROUP_NAMES, "GlooGroup.open()");
    const { masterAddress, masterPort, groupName, worldSize } = options;
    if (!Number.isSafeInteger(worldSize) || worldSize < 2) {
      throw new ValidationError(`worldSize is ${worldSize}; a group has at least 2 ranks`);
    }
    if (groupName === "") throw new ValidationError("groupName is empty");
    if (isIP(masterAddress) !== 0 && isUnspecified(parseIp(masterAddress))) {
      throw new ValidationError(
        `masterAddress ${masterAddress} means all interfaces: give the address that servers can ` +
          `connect to, and this one as bindAddress`,
      );
    }
    call.signal.throwIfAborted();
    const bindAddress = options.bindAddress ?? masterAddress;
    const store = TCPStoreServer.listen({ hostname: bindAddress, port: masterPort });
    try {
      const bound = store.hostname;
      const publishedIp = isUnspecified(parseIp(bound)) ? await resolveHost(masterAddress) : bound;
      call.signal.throwIfAborted();
      const mesh = new Mesh({ rank: 0, worldSize, bindAddress: bound, publishedIp });
      store.set(rankKey(groupName, 0), mesh.rankInfo);
      return new GlooGroup(options, store, mesh);
    } catch (error) {
      await store[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Port that the servers connect to. */
  get masterPort(): number {
    return this.#store.port;
  }

  /** Why no further broadcast can succeed, as soon as that is known. */
  get failure(): Error | undefined {
    return this.#mesh.failure;
  }

  /** Connections that said a wrong number: somebody who is no rank tried to join. */
  get strangers(): number {
    return this.#mesh.strangers;
  }

  /** How far the group has come, for error messages. */
  get heard(): string {
    const { clients, lastOp, lastError } = this.#store.peersSeen;
    return [
      `${this.#mesh.connected + 1} of ${this.worldSize} ranks connected`,
      `${clients} came to the store` + (lastOp === undefined ? "" : `, last request ${lastOp}`),
      ...(this.strangers === 0 ? [] : [`${this.strangers} strangers were dropped`]),
      ...(lastError === undefined ? [] : [`store client dropped: ${lastError}`]),
    ].join("; ");
  }

  /**
   * Connects with every rank. Rejects with the signal's reason when it fires first; the group must
   * then be aborted.
   */
  async connect(call: TransportCall): Promise<void> {
    this.#checkUsable();
    await this.#mesh.connect(async (rank, signal) => {
      const [info] = await this.#store.wait([rankKey(this.groupName, rank)], {
        signal,
        timeoutMs: Infinity,
        phase: `rank ${rank} joins`,
      });
      return info!;
    }, call.signal);
    this.#connected = true;
  }

  /**
   * Sends each part as one broadcast, in order. Resolves when the kernel has all bytes; that the
   * servers have them is said by their answer to the HTTP call only. The parts must not change
   * before. Rejects with the signal's reason when it fires first; the group must then be aborted.
   */
  async broadcast(parts: readonly BroadcastPart[], call: TransportCall): Promise<void> {
    call.signal.throwIfAborted();
    this.#checkUsable();
    if (!this.#connected) throw new StateError("gloo: broadcast before connect");
    const sends: Promise<void>[] = [];
    for (const { bytes } of parts) {
      const slot = broadcastSlot(this.#tag++);
      for (const rank of this.#children) sends.push(this.#mesh.pair(rank).send(slot, bytes));
    }
    await orAborted(Promise.all(sends), call.signal);
  }

  /**
   * Ends the group. A payload on the wire is finished first and the ranks left time to read it, at
   * most 5 s: half a payload would leave a server waiting for 30 minutes. Never rejects.
   */
  async abort(reason: Error): Promise<void> {
    await Promise.all([this.#mesh.end(reason, GRACE_MS), this.#store[Symbol.asyncDispose]()]);
  }

  /** Ends the group, as {@linkcode abort} does, without a reason. */
  async close(): Promise<void> {
    await this.abort(new StateError(`gloo: group ${this.groupName} is closed`));
  }

  /** Ends the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkUsable(): void {
    const failure = this.failure;
    if (failure === undefined) return;
    if (failure instanceof SGLangError) throw failure;
    throw new StateError(`gloo: group ${this.groupName} ended: ${failure.message}`, {
      cause: failure,
    });
  }
}
