import type { CollectiveGroup, FindWord, OpenGroup } from "../../collective/group.ts";
import { HttpError, StateError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { leaveGroups, worldSizeOf } from "../fleet/fleet.ts";
import { BEYOND_ANY_STEP_MS } from "../fleet/on_all.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import { refuseDeviceMemory, refuseFloat8 } from "../source/source.ts";
import { exchange } from "./exchange.ts";
import { chooseMasterAddress, chooseMasterPort, turnAway } from "./master.ts";
import {
  BucketFeed,
  type DeviceStaging,
  type ReadyBuckets,
  StagingMemory,
  updatesOf,
} from "./staging.ts";
import type {
  Transport,
  TransportLink,
  TransportRun,
  TransportServer,
  TransportUpdate,
  UpdateCall,
  WillCall,
} from "./transport.ts";

/** A server whose connection breaks answers at once over gloo, within seconds over NCCL. */
const UPDATE_LAST_WORDS_MS = 3000;
/** No model has such a weight; SGLang leaves unknown names alone. */
const WARM_UP_NAME = "sglang_rl.warm_up";

/** What a {@linkcode CollectiveTransport} is told. */
export type CollectiveSettings =
  & Pick<ResolvedOptions, "bucketBytes" | "flattened" | "deadlines" | "logger">
  & Partial<Pick<ResolvedOptions, "isolation" | "masterAddress" | "masterPort" | "bindAddress">>;

/** How groups are opened, and what they share. */
export interface GroupWay extends AsyncDisposable {
  /** Opens a group. */
  readonly openGroup: OpenGroup;
  /** Brings weights together on the device for all groups, where they send from one. */
  readonly device?: (DeviceStaging & Required<Pick<CollectiveGroup, "stagingBuffer">>) | undefined;
  /** The buckets of a sync, where groups have the bytes themselves. Default: read here. */
  readonly buckets?: ((run: TransportRun) => ReadyBuckets) | undefined;
  /** Takes the device memory for buckets of this size. */
  reserve?(byteLength: number): Promise<void>;
  /** Why no further group can be opened, when none can. */
  readonly failure?: Error | undefined;
  /** Says what is to be done with a server when this process is killed; absent where nobody does. */
  readonly setWill?:
    | ((server: TransportServer, calls: readonly WillCall[]) => Promise<void>)
    | undefined;
}

/** Opens the way; contacts no server. */
export type OpenWay = (signal: AbortSignal | undefined) => Promise<GroupWay>;

/** The way of groups that share nothing. */
export function groupsOnly(openGroup: OpenGroup): GroupWay {
  return { openGroup, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** A group and the servers in it. */
interface Circle {
  readonly members: readonly TransportServer[];
  readonly group: CollectiveGroup;
  isBroken: boolean;
}

/**
 * Weights by broadcasts of process groups with this process as rank 0 (NCCL or gloo): a group for
 * each server, or one that holds the ranks of all of them.
 */
export class CollectiveTransport implements Transport {
  readonly name: "nccl" | "gloo";
  readonly needsSession = true;
  readonly isolates: boolean;
  readonly #options: CollectiveSettings;
  readonly #openWay: OpenWay;
  #way: GroupWay | undefined;
  #circles: Circle[] = [];
  /** Staging memory, for as long as its owner is open. */
  #memory: StagingMemory | undefined;
  /** The buckets of the sync under way. */
  #feed: ReadyBuckets | undefined;

  /** Makes it; nothing is opened yet. */
  constructor(name: "nccl" | "gloo", openWay: OpenWay, options: CollectiveSettings) {
    this.name = name;
    this.isolates = (options.isolation ?? "server") === "server";
    this.#openWay = openWay;
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#circles.length > 0;
  }

  async prepare(run: TransportRun): Promise<readonly TransportUpdate[]> {
    if (!this.#options.flattened && this.name === "gloo") refuseFloat8(run.open);
    await this.connect(run);
    const feed = this.#feed = this.#way?.buckets?.(run) ?? this.#read(run);
    // While the servers still generate: a slow source does not keep them paused.
    await run.step("stage", "make the first bucket ready", () => feed.begin());
    return updatesOf(run.buckets, (_bucket, call, index) => this.#send(feed, index, call));
  }

  /** Buckets that are read in this process. */
  #read(run: TransportRun): BucketFeed {
    const device = this.#device();
    if (device === undefined) refuseDeviceMemory(run.open, `transport "${this.name}"`);
    const { updateMs: firstMs, readMs } = this.#options.deadlines;
    return new BucketFeed(run, { device, memory: this.#memory, firstMs, readMs });
  }

  /** Opens the groups, except those that are open with just their servers. */
  async connect({ servers, step, signal }: TransportLink): Promise<void> {
    if (this.#way?.failure !== undefined) await this.#closeWay();
    const wanted = this.isolates ? servers.map((server) => [server]) : [servers];
    const kept = this.#circles.filter((circle) =>
      !circle.isBroken && circle.group.failure === undefined &&
      wanted.some((members) => isSame(members, circle.members))
    );
    const others = this.#circles.filter((circle) => !kept.includes(circle));
    this.#circles = kept;
    await this.#close(others);
    const missing = wanted.filter((members) =>
      !kept.some((circle) => isSame(members, circle.members))
    );
    if (missing.length === 0) return;
    await step("init", "open the group", async () => {
      const way = this.#way ??= await this.#openWay(signal);
      const masterAddress = this.#options.masterAddress ??
        await chooseMasterAddress(servers, signal);
      const opened = await Promise.allSettled(missing.map((members) => {
        const place = { masterAddress, index: wanted.indexOf(members) };
        return this.#open(way, members, place, signal);
      }));
      const circles = opened.filter((one) => one.status === "fulfilled").map(({ value }) => value);
      this.#circles.push(...circles);
      for (const one of opened) if (one.status === "rejected") throw one.reason;
      const { group } = circles[0]!;
      const allocate = way.device?.stagingBuffer.bind(way.device) ??
        group.stagingBuffer?.bind(group);
      // A group's own memory goes with it; the way's stays.
      if (way.device === undefined || this.#memory === undefined) {
        this.#memory = allocate && new StagingMemory(allocate);
      }
    });
  }

  /** Opens the device where it is not open; asks nothing of a server. */
  async wordFinder(signal: AbortSignal | undefined): Promise<FindWord | undefined> {
    const { device } = this.#way ??= await this.#openWay(signal);
    return device?.findWord?.bind(device);
  }

  /** Forms the communicators, which servers else do within their first update. */
  async warmUp({ step, signal }: TransportLink): Promise<void> {
    const way = this.#way;
    if (this.name !== "nccl" || way?.device === undefined) return;
    await step("init", "warm up", async () => {
      await way.reserve?.(this.#options.bucketBytes);
      const bytes = new Uint8Array(2);
      const call = { signal: signal ?? new AbortController().signal };
      const parts = await way.device!.stage([{ bytes, dtype: "bfloat16" }], call);
      await Promise.all(this.#circles.map((circle) => this.#warm(circle, parts, signal)));
    });
  }

  async #warm(
    circle: Circle,
    parts: Parameters<NonNullable<CollectiveGroup["broadcastDevice"]>>[0],
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { group, members } = circle;
    const { initMs, destroyMs } = this.#options.deadlines;
    const tensor = { names: [WARM_UP_NAME], dtypes: ["bfloat16"], shapes: [[1]] };
    try {
      await exchange({
        phase: "warm up",
        timeoutMs: initMs,
        lastWordsMs: destroyMs,
        servers: members,
        group,
        signal,
        post: (server, inner) =>
          whilePaused(server, inner, async () => {
            await server.client.updateWeightsFromDistributed(
              { ...tensor, groupName: group.groupName },
              { signal: inner, timeoutMs: BEYOND_ANY_STEP_MS },
            ).catch((error) => {
              if (!mindsTheName(error)) throw error;
            });
          }),
        collective: (inner, queued) => group.broadcastDevice!(parts, { signal: inner, queued }),
      });
    } catch (error) {
      circle.isBroken = true;
      throw error;
    }
  }

  async #open(
    way: GroupWay,
    members: readonly TransportServer[],
    place: { readonly masterAddress: string; readonly index: number },
    signal: AbortSignal | undefined,
  ): Promise<Circle> {
    const worldSize = worldSizeOf(members);
    const { deadlines, logger, bindAddress } = this.#options;
    const { masterAddress, index } = place;
    const hostname = bindAddress ?? masterAddress;
    const masterPort = this.#options.masterPort === undefined
      ? chooseMasterPort(hostname)
      : this.#options.masterPort + index;
    // New for every attempt, so that what an attempt left behind on a server cannot be met again. The
    // mark of a sync names it, for whoever takes over from us.
    const groupName = `sglang-rl-${crypto.randomUUID().slice(0, 18)}`;
    const group = await way.openGroup(
      { masterAddress, masterPort, bindAddress, groupName, worldSize },
      { signal: signal ?? new AbortController().signal },
    );
    logger.debug(`Group ${groupName}: ${worldSize} ranks at ${masterAddress}:${group.masterPort}`);
    const { backend } = group;
    const rankOffset = this.isolates ? 1 : undefined;
    const joined = {
      masterAddress,
      masterPort: group.masterPort,
      worldSize,
      groupName,
      backend,
      rankOffset,
    };
    try {
      await exchange({
        phase: "init",
        timeoutMs: deadlines.initMs,
        servers: members,
        group,
        signal,
        post: (server, postSignal) => server.joinGroup(joined, postSignal),
        collective: (groupSignal, queued) => {
          queued();
          return group.connect({ signal: groupSignal });
        },
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
    return { members, group, isBroken: false };
  }

  async #send(feed: ReadyBuckets, index: number, call: UpdateCall): Promise<void> {
    const { servers, signal } = call;
    const circle = this.#circles.find(({ members }) => members.includes(servers[0]!));
    if (circle === undefined) throw new StateError("Communication group not initialized");
    const leave = () => servers.forEach((server) => feed.leave(server));
    signal?.addEventListener("abort", leave, { once: true });
    try {
      const wait = { phase: call.phase, timeoutMs: Infinity, signal };
      const ready = await withDeadline(wait, () => feed.take(index));
      const { bucket } = ready;
      const body = {
        names: bucket.tensors.map(({ name }) => name),
        dtypes: bucket.tensors.map(({ dtype }) => dtype),
        shapes: bucket.tensors.map(({ shape }) => shape),
        groupName: circle.group.groupName,
      };
      const loadFormat = bucket.flattened ? "flattened_bucket" : undefined;
      await exchange({
        ...call,
        lastWordsMs: Math.min(UPDATE_LAST_WORDS_MS, this.#options.deadlines.destroyMs),
        group: circle.group,
        queue: circle.group.queues ? call.queue : undefined,
        post: (server, inner) =>
          call.whileUpdating(server, async () => {
            await server.client.updateWeightsFromDistributed(body, {
              signal: inner,
              timeoutMs: BEYOND_ANY_STEP_MS,
              loadFormat,
              selector: server.selector,
              weightVersion: server.ownMark,
            });
          }),
        collective: (inner, queued) => ready.send(circle.group, { signal: inner, queued }),
      });
      for (const server of servers) feed.done(index, server);
    } catch (error) {
      circle.isBroken = true;
      leave();
      throw error;
    } finally {
      signal?.removeEventListener("abort", leave);
    }
  }

  get setWill(): GroupWay["setWill"] {
    return this.#way?.setWill;
  }

  async abort(error: Error): Promise<void> {
    const circles = this.#circles;
    this.#circles = [];
    this.#stopFeed(error);
    await Promise.all(circles.map(async ({ group }) => {
      await group.abort(error);
      await group.close();
    }));
  }

  /** Ends the groups: on the servers first, because one whose rank 0 vanishes may die with it. */
  async reset(): Promise<void> {
    const circles = this.#circles;
    this.#circles = [];
    this.#stopFeed(new StateError("The group was closed"));
    await this.#close(circles);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reset();
    await this.#closeWay();
  }

  async #closeWay(): Promise<void> {
    const way = this.#way;
    this.#way = undefined;
    this.#memory = undefined;
    await this.reset();
    await way?.[Symbol.asyncDispose]();
  }

  async #close(circles: readonly Circle[]): Promise<void> {
    await leaveGroups(circles.flatMap(({ members }) => members), this.#options);
    await Promise.all(circles.map(({ group }) => group.close()));
  }

  #stopFeed(reason: Error): void {
    this.#feed?.stop(reason);
    this.#feed = undefined;
  }

  /** What brings weights to the device: the way's staging, or a lone group's own. */
  #device(): DeviceStaging | undefined {
    if (this.#way?.device !== undefined) return this.#way.device;
    const { group } = this.#circles[0]!;
    const isAlone = this.#circles.length === 1 && group.broadcastDevice !== undefined;
    return isAlone && group.stage !== undefined
      ? {
        stage: group.stage.bind(group),
        stagingSlots: group.stagingSlots,
        makesFloat8: group.makesFloat8,
      }
      : undefined;
  }
}

/**
 * Whether a server took the broadcast of the warm-up and then had no such weight. One whose collective
 * failed says so at once, and the others would wait in theirs for good: two ranks on one GPU, for one.
 */
function mindsTheName(error: unknown): boolean {
  return error instanceof HttpError && !/nccl|c10d|duplicate gpu/i.test(error.serverMessage);
}

function isSame(a: readonly TransportServer[], b: readonly TransportServer[]): boolean {
  return a.length === b.length && a.every((server, i) => server === b[i]);
}

/** Runs an update outside a sync: without a pause it would wait for all running requests. */
async function whilePaused(
  { client }: TransportServer,
  signal: AbortSignal,
  work: () => Promise<void>,
): Promise<void> {
  await client.pause("in_place", { signal });
  try {
    await work();
  } finally {
    await client.resume({ signal });
  }
}
