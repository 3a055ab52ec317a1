import { StateError } from "../../errors.ts";
import type { ResolvedOptions } from "../options.ts";
import type { FleetServer } from "../server.ts";
import { StagingMemory } from "../staging.ts";
import type { CollectiveGroup, OpenGroup } from "../transport.ts";
import type { Delivery, SyncRun } from "./delivery.ts";
import { exchange } from "./exchange.ts";
import { BucketFeed, type ReadyBucket } from "./feed.ts";
import { destroyGroups } from "./groups.ts";
import { chooseMasterAddress, chooseMasterPort } from "./master.ts";
import { refuseFloat8 } from "./refuse.ts";
import { turnAway } from "./turn_away.ts";

/** A server whose connection breaks answers at once over gloo, within seconds over NCCL. */
const UPDATE_LAST_WORDS_MS = 3000;

/**
 * Weights by broadcasts of a process group with this process as rank 0 (NCCL or gloo). One group
 * holds the ranks of all servers, so a byte is sent once for all of them.
 */
export class CollectiveDelivery implements Delivery {
  readonly transport: "nccl" | "gloo";
  readonly needsSession = true;
  readonly #options: ResolvedOptions;
  readonly #openGroup: OpenGroup;
  #group: CollectiveGroup | undefined;
  /** Memory of the group, for as long as it is open. */
  #memory: StagingMemory | undefined;
  #members: readonly FleetServer[] = [];
  /** The buckets of the sync under way. */
  #feed: BucketFeed | undefined;

  /** Makes it; nothing is opened yet. */
  constructor(transport: "nccl" | "gloo", openGroup: OpenGroup, options: ResolvedOptions) {
    this.transport = transport;
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

  async prepare(run: SyncRun): Promise<void> {
    if (!this.#options.flattened && this.transport === "gloo") refuseFloat8(run);
    await this.connect(run);
    const feed = this.#feed = new BucketFeed(run, this.#requireGroup(), {
      memory: this.#memory,
      timeoutMs: this.#options.deadlines.updateMs,
    });
    // While the servers still generate: a slow source does not keep them paused.
    await run.steps.run("stage", "make the first bucket ready", () => feed.begin());
  }

  /** Opens the group on every server, unless it is open with just these. */
  async connect(run: Pick<SyncRun, "servers" | "steps" | "signal">): Promise<void> {
    const { servers, steps, signal } = run;
    const isSame = servers.length === this.#members.length &&
      servers.every((server, i) => server === this.#members[i]);
    if (this.#group !== undefined && isSame && this.#group.failure === undefined) return;
    await this.reset();
    const worldSize = 1 + servers.reduce((sum, { tpSize }) => sum + tpSize, 0);
    await steps.run("init", "open the group", () => this.#open(servers, worldSize, signal));
  }

  async #open(
    servers: readonly FleetServer[],
    worldSize: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
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
    let rankOffset = 1;
    for (const server of servers) {
      server.rankOffset = rankOffset;
      rankOffset += server.tpSize;
    }
    try {
      await exchange({
        phase: "init",
        timeoutMs: deadlines.initMs,
        servers,
        group,
        signal,
        post: async (server, postSignal) => {
          server.groups.add(groupName);
          await server.initGroup({
            masterAddress,
            masterPort: group.masterPort,
            rankOffset: server.rankOffset,
            worldSize,
            groupName,
            backend: group.backend,
          }, postSignal);
        },
        collective: (groupSignal) => group.connect({ signal: groupSignal }),
        lastWordsMs: deadlines.destroyMs,
        afterAbort: (awaySignal) => turnAway({ hostname, port: group.masterPort }, awaySignal),
      });
    } catch (error) {
      await group.close();
      throw error;
    }
    this.#group = group;
    this.#memory = group.stagingBuffer && new StagingMemory(group.stagingBuffer.bind(group));
    this.#members = servers;
  }

  async deliver(run: SyncRun): Promise<void> {
    const group = this.#requireGroup();
    const feed = this.#feed;
    if (feed === undefined) throw new StateError("deliver() was called before prepare()");
    const count = run.buckets.length;
    for (let i = 0; i < count; i++) {
      const phase = `update bucket ${i + 1} of ${count}`;
      await run.steps.run("update", phase, async () => {
        const place = { isFirst: i === 0, isLast: i === count - 1 };
        await this.#send(group, await feed.next(), phase, run, place);
      });
      run.steps.addBytes(run.buckets[i]!.byteLength);
    }
    this.#feed = undefined;
  }

  async #send(
    group: CollectiveGroup,
    ready: ReadyBucket,
    phase: string,
    run: SyncRun,
    place: { isFirst: boolean; isLast: boolean },
  ): Promise<void> {
    const { bucket } = ready;
    const body = {
      names: bucket.tensors.map(({ name }) => name),
      dtypes: bucket.tensors.map(({ dtype }) => dtype),
      shapes: bucket.tensors.map(({ shape }) => shape),
      groupName: group.groupName,
      flattened: bucket.flattened,
    };
    await exchange({
      phase,
      timeoutMs: this.#options.deadlines.updateMs,
      lastWordsMs: Math.min(UPDATE_LAST_WORDS_MS, this.#options.deadlines.destroyMs),
      servers: run.servers,
      group,
      signal: run.signal,
      post: (server, signal) =>
        server.taking(place, () => server.updateFromDistributed(body, signal)),
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
    await destroyGroups(members, this.#options);
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
