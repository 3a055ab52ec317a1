import type { CollectiveGroup, OpenGroup } from "../../collective/group.ts";
import { StateError } from "../../errors.ts";
import { leaveGroups, worldSizeOf } from "../fleet/fleet.ts";
import { BEYOND_ANY_STEP_MS } from "../fleet/on_all.ts";
import type { ResolvedOptions } from "../options.ts";
import { refuseFloat8 } from "../source/source.ts";
import { exchange } from "./exchange.ts";
import { chooseMasterAddress, chooseMasterPort, turnAway } from "./master.ts";
import { BucketFeed, type ReadyBucket, StagingMemory, updatesOf } from "./staging.ts";
import type {
  Transport,
  TransportLink,
  TransportRun,
  TransportServer,
  TransportUpdate,
  UpdateCall,
} from "./transport.ts";

/** A server whose connection breaks answers at once over gloo, within seconds over NCCL. */
const UPDATE_LAST_WORDS_MS = 3000;

/**
 * Weights by broadcasts of a process group with this process as rank 0 (NCCL or gloo). One group
 * holds the ranks of all servers, so a byte is sent once for all of them.
 */
export class CollectiveTransport implements Transport {
  readonly name: "nccl" | "gloo";
  readonly needsSession = true;
  readonly #options: ResolvedOptions;
  readonly #openGroup: OpenGroup;
  #group: CollectiveGroup | undefined;
  /** Memory of the group, for as long as it is open. */
  #memory: StagingMemory | undefined;
  #members: readonly TransportServer[] = [];
  /** The buckets of the sync under way. */
  #feed: BucketFeed | undefined;

  /** Makes it; nothing is opened yet. */
  constructor(name: "nccl" | "gloo", openGroup: OpenGroup, options: ResolvedOptions) {
    this.name = name;
    this.#openGroup = openGroup;
    this.#options = options;
  }

  /** The group, while it is open. */
  get group(): CollectiveGroup | undefined {
    return this.#group;
  }

  get isConnected(): boolean {
    return this.#group !== undefined;
  }

  async prepare(run: TransportRun): Promise<readonly TransportUpdate[]> {
    if (!this.#options.flattened && this.name === "gloo") refuseFloat8(run.open);
    await this.connect(run);
    const group = this.#requireGroup();
    const feed = this.#feed = new BucketFeed(run, group, {
      memory: this.#memory,
      timeoutMs: this.#options.deadlines.updateMs,
    });
    // While the servers still generate: a slow source does not keep them paused.
    await run.step("stage", "make the first bucket ready", () => feed.begin());
    return updatesOf(run.buckets, async (_bucket, call) => {
      await this.#send(group, await feed.next(), run.servers, call);
    });
  }

  /** Opens the group on every server, unless it is open with just these. */
  async connect({ servers, step, signal }: TransportLink): Promise<void> {
    const isSame = servers.length === this.#members.length &&
      servers.every((server, i) => server === this.#members[i]);
    if (this.#group !== undefined && isSame && this.#group.failure === undefined) return;
    await this.reset();
    await step("init", "open the group", () => this.#open(servers, signal));
  }

  async #open(
    servers: readonly TransportServer[],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const worldSize = worldSizeOf(servers);
    const { deadlines, logger } = this.#options;
    const masterAddress = this.#options.masterAddress ?? await chooseMasterAddress(servers, signal);
    const hostname = this.#options.bindAddress ?? masterAddress;
    const masterPort = this.#options.masterPort ?? chooseMasterPort(hostname);
    // New for every attempt, so that what an attempt left behind on a server cannot be met again.
    const groupName = `sglang-rl-${crypto.randomUUID()}`;
    const group = await this.#openGroup(
      { masterAddress, masterPort, bindAddress: this.#options.bindAddress, groupName, worldSize },
      { signal: signal ?? new AbortController().signal },
    );
    logger.debug(`Group ${groupName}: ${worldSize} ranks at ${masterAddress}:${group.masterPort}`);
    const { backend } = group;
    const joined = { masterAddress, masterPort: group.masterPort, worldSize, groupName, backend };
    try {
      await exchange({
        phase: "init",
        timeoutMs: deadlines.initMs,
        servers,
        group,
        signal,
        post: (server, postSignal) => server.joinGroup(joined, postSignal),
        collective: (groupSignal) => group.connect({ signal: groupSignal }),
        lastWordsMs: deadlines.destroyMs,
        afterAbort: (awaySignal) => turnAway({ hostname, port: group.masterPort }, awaySignal),
      });
    } catch (error) {
      await group.close();
      throw error;
    }
    if (group.strangers) {
      logger.warn(
        `${group.strangers} connections to the weights' port were no rank's and were dropped: ` +
          "somebody on this network tries to join",
      );
    }
    this.#group = group;
    this.#memory = group.stagingBuffer && new StagingMemory(group.stagingBuffer.bind(group));
    this.#members = servers;
  }

  async #send(
    group: CollectiveGroup,
    ready: ReadyBucket,
    servers: readonly TransportServer[],
    call: UpdateCall,
  ): Promise<void> {
    const { bucket } = ready;
    const body = {
      names: bucket.tensors.map(({ name }) => name),
      dtypes: bucket.tensors.map(({ dtype }) => dtype),
      shapes: bucket.tensors.map(({ shape }) => shape),
      groupName: group.groupName,
    };
    const loadFormat = bucket.flattened ? "flattened_bucket" : undefined;
    await exchange({
      ...call,
      lastWordsMs: Math.min(UPDATE_LAST_WORDS_MS, this.#options.deadlines.destroyMs),
      servers,
      group,
      post: (server, signal) =>
        call.taking(server, async () => {
          await server.client.updateWeightsFromDistributed(body, {
            signal,
            timeoutMs: BEYOND_ANY_STEP_MS,
            loadFormat,
          });
        }),
      collective: (signal) => ready.send({ signal }),
    });
  }

  #requireGroup(): CollectiveGroup {
    if (this.#group === undefined) throw new StateError("Communication group not initialized");
    return this.#group;
  }

  async abort(error: Error): Promise<void> {
    const group = this.#group;
    this.#forget(error);
    await group?.abort(error);
    await group?.close();
  }

  /** Ends the group: on the servers first, because one whose rank 0 vanishes may die with it. */
  async reset(): Promise<void> {
    const group = this.#group;
    const members = this.#members;
    this.#forget(new StateError("The group was closed"));
    if (group === undefined) return;
    await leaveGroups(members, this.#options);
    await group.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
  }

  #forget(reason: Error): void {
    this.#feed?.stop(reason);
    this.#feed = undefined;
    this.#group = undefined;
    this.#memory = undefined;
    this.#members = [];
  }
}
