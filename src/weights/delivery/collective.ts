import { StateError, UnsupportedError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import type { ResolvedOptions } from "../options.ts";
import type { FleetServer } from "../server.ts";
import { type StagedBucket, StagingMemory, StagingRing } from "../staging.ts";
import type { CollectiveGroup, OpenGroup } from "../transport.ts";
import type { Delivery, SyncRun } from "./delivery.ts";
import { exchange } from "./exchange.ts";
import { destroyGroups } from "./groups.ts";
import { chooseMasterAddress, chooseMasterPort } from "./master.ts";
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
    await this.connect(run);
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
    const stop = new AbortController();
    const onAbort = () => stop.abort(run.signal?.reason);
    run.signal?.addEventListener("abort", onAbort, { once: true });
    const ring = new StagingRing(run.open, this.#memory);
    const staged = ring.stage(run.buckets, stop.signal);
    try {
      for (let i = 0; i < run.buckets.length; i++) {
        const phase = `update bucket ${i + 1} of ${run.buckets.length}`;
        await run.steps.run("update", phase, async () => {
          const next = await readInTime(run, phase, this.#options, () => staged.next());
          if (next.done) throw new StateError("The source ended before its last bucket");
          await this.#send(group, next.value, phase, run, {
            isFirst: i === 0,
            isLast: i === run.buckets.length - 1,
          });
        });
        run.steps.addBytes(run.buckets[i]!.byteLength);
      }
    } catch (error) {
      stop.abort(error);
      throw error;
    } finally {
      run.signal?.removeEventListener("abort", onAbort);
    }
  }

  async #send(
    group: CollectiveGroup,
    staged: StagedBucket,
    phase: string,
    run: SyncRun,
    place: { isFirst: boolean; isLast: boolean },
  ): Promise<void> {
    const { bucket, parts } = staged;
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
      collective: (signal) => group.broadcast(parts, { signal }),
    });
  }

  #requireGroup(): CollectiveGroup {
    if (this.#group === undefined) throw new StateError("Communication group not initialized");
    return this.#group;
  }

  async abort(error: Error): Promise<void> {
    const group = this.#group;
    this.#group = undefined;
    this.#memory = undefined;
    this.#members = [];
    await group?.abort(error);
    await group?.close();
  }

  /** Ends the group: on the servers first, because one whose rank 0 vanishes may die with it. */
  async reset(): Promise<void> {
    const group = this.#group;
    const members = this.#members;
    this.#group = undefined;
    this.#memory = undefined;
    this.#members = [];
    if (group === undefined) return;
    await destroyGroups(members, this.#options);
    await group.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
  }
}

async function readInTime<T>(
  run: SyncRun,
  phase: string,
  options: ResolvedOptions,
  work: () => Promise<T>,
): Promise<T> {
  const wait = {
    phase: `read for ${phase}`,
    timeoutMs: options.deadlines.updateMs,
    signal: run.signal,
    peer: run.source.label,
  };
  return await withDeadline(wait, work);
}

function refuseFloat8(run: SyncRun): void {
  const float8 = run.open.tensors.find(({ dtype }) => dtype.startsWith("float8"));
  if (float8 === undefined) return;
  throw new UnsupportedError(
    `gloo cannot broadcast "${float8.name}" (${float8.dtype}) alone: leave flattened on, which ` +
      "sends bytes",
  );
}
