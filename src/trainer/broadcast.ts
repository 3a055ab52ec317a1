import type { CollectiveGroup, OpenGroupOptions, TransportCall } from "../collective/group.ts";
import { StateError, ValidationError } from "../errors.ts";
import { sleep } from "../internal/deadline.ts";
import { isLoopback } from "../internal/hostname.ts";
import { checkOneOf, checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { WeightSource } from "../weights/source/mod.ts";
import { CollectiveTransport, type GroupWay } from "../weights/transport/collective.ts";
import type {
  OpenTransport,
  PlannedBucket,
  Transport,
  TransportLink,
  TransportRun,
  TransportSettings,
  TransportUpdate,
} from "../weights/transport/mod.ts";
import { SharedFeed } from "../weights/transport/shared_feed.ts";
import type { TrainerConnection } from "./connection.ts";

/** Options of {@linkcode trainerBroadcasts}. */
export interface TrainerBroadcastOptions {
  /** What the groups talk by. Default: gloo for servers on a CPU, else NCCL. */
  readonly backend?: "gloo" | "nccl" | undefined;
  /** The trainer's address, as the servers reach it. Default: the one that it connects from. */
  readonly masterAddress?: string | undefined;
}

const OPTION_NAMES = {
  backend: true,
  masterAddress: true,
} as const satisfies OptionNames<TrainerBroadcastOptions>;

/** How long a trainer has to say that it let go of a group. */
const LET_GO_MS = 1000;
/** How long the news that the trainer is gone may be late. */
const NEWS_MS = 200;

/** The trainers that can broadcast their pushes themselves, by the source of the push. */
const broadcasters = new WeakMap<WeightSource, TrainerConnection>();

/** Notes that a trainer can broadcast what a source stands for. */
export function noteBroadcaster(source: WeightSource, connection: TrainerConnection): void {
  broadcasters.set(source, connection);
}

/**
 * The other way round: the trainer in Python is rank 0 of the servers' groups and broadcasts its
 * tensors itself, by torch's own gloo or NCCL, while this process coordinates: it pauses the
 * servers, tells both sides what comes, proves that it landed, and keeps all deadlines. To be given to
 * a sync scheme as its `transport`, for pushes of a `WeightLink(…, ways=["broadcast"])`.
 *
 * @throws {ValidationError} An option is wrong.
 *
 * @example
 * ```ts ignore
 * import { SGLangWeightSyncScheme } from "@sglang-rl/sglang-rl/weights";
 * import { TrainerLink, trainerBroadcasts } from "@sglang-rl/sglang-rl/trainer";
 *
 * await using link = await TrainerLink.listen("unix:/tmp/trainer.sock");
 * const scheme = new SGLangWeightSyncScheme({ serverUrl, transport: trainerBroadcasts() });
 * await using sender = scheme.createSender();
 * await sender.initAllWorkersGroup();
 * const report = await link.syncNext(sender); // WeightLink(address, ways=["broadcast"]).push(model)
 * ```
 */
export function trainerBroadcasts(options: TrainerBroadcastOptions = {}): OpenTransport {
  checkOptionNames(options, OPTION_NAMES, "trainerBroadcasts()");
  const { backend } = options;
  if (backend !== undefined) checkOneOf("backend", backend, ["gloo", "nccl"]);
  return (settings) => new BroadcastTransport(settings, options);
}

/** Groups of servers whose rank 0 is the trainer of the push under way. */
class BroadcastTransport implements Transport {
  readonly name = "trainer";
  readonly needsSession = true;
  readonly isolates = true;
  readonly #settings: TransportSettings;
  readonly #options: TrainerBroadcastOptions;
  #groups: { readonly trainer: TrainerConnection; readonly by: CollectiveTransport } | undefined;

  constructor(settings: TransportSettings, options: TrainerBroadcastOptions) {
    this.#settings = settings;
    this.#options = options;
  }

  get isConnected(): boolean {
    return this.#groups?.by.isConnected ?? false;
  }

  /** There is nothing to open before a trainer pushes. */
  async connect(_link: TransportLink): Promise<void> {}

  async prepare(run: TransportRun): Promise<readonly TransportUpdate[]> {
    const trainer = broadcasters.get(run.source);
    if (trainer === undefined) {
      throw new ValidationError(
        `${run.source.label} cannot be broadcast by a trainer: that needs a push of a ` +
          'WeightLink(…, ways=["broadcast"]), without castFloat32To (cast in the trainer)',
      );
    }
    if (this.#groups?.trainer !== trainer) await this.#drop();
    this.#groups ??= { trainer, by: this.#open(trainer, run) };
    const { by } = this.#groups;
    const updates = await named(trainer, () => by.prepare(run));
    return updates.map((update) => ({
      ...update,
      send: (call) => named(trainer, () => update.send(call)),
    }));
  }

  async reset(): Promise<void> {
    await this.#groups?.by.reset();
  }

  async abort(error: Error): Promise<void> {
    await this.#groups?.by.abort(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#drop();
  }

  #open(trainer: TrainerConnection, { servers }: TransportRun): CollectiveTransport {
    const backend = this.#options.backend ??
      (servers.every(({ isCpu }) => isCpu) ? "gloo" : "nccl");
    const { updateMs, initMs } = this.#settings.deadlines;
    const timeoutMs = Math.max(updateMs, initMs);
    const seen = trainer.hostname;
    const from = seen === undefined || isLoopback(seen) ? undefined : seen;
    const masterAddress = this.#options.masterAddress ?? from;
    const way: GroupWay = {
      openGroup: (options, call) =>
        TrainerGroup.open(trainer, { ...options, backend, timeoutMs }, call),
      buckets: ({ buckets, servers }) =>
        new SharedFeed(buckets.length, servers, (index) => {
          const bucket = buckets[index]!;
          return Promise.resolve({
            bucket,
            send: (group, call) => (group as TrainerGroup).broadcastBucket(bucket, call),
          });
        }),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    };
    // The trainer takes a port of its own.
    const settings = { ...this.#settings, masterAddress, masterPort: 0 };
    return new CollectiveTransport(backend, () => Promise.resolve(way), settings);
  }

  async #drop(): Promise<void> {
    const groups = this.#groups;
    this.#groups = undefined;
    await groups?.by[Symbol.asyncDispose]();
  }
}

/** Runs a step; when it fails because the trainer is gone, that is what is told. */
async function named<T>(trainer: TrainerConnection, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    // A server may hear of it a moment before this process does.
    const late = new AbortController();
    const signal = AbortSignal.any([late.signal, trainer.ended]);
    const wait = sleep(NEWS_MS, { signal, clock: trainer.clock });
    await wait.catch(() => {});
    late.abort();
    throw trainer.ended.aborted ? trainer.ended.reason : error;
  }
}

/** A group whose rank 0 is a trainer. */
class TrainerGroup implements CollectiveGroup {
  readonly backend: "gloo" | "nccl";
  readonly masterAddress: string;
  readonly masterPort: number;
  readonly groupName: string;
  readonly worldSize: number;
  readonly #trainer: TrainerConnection;
  #isOver = false;

  private constructor(
    trainer: TrainerConnection,
    options: OpenGroupOptions & { readonly backend: "gloo" | "nccl" },
  ) {
    this.#trainer = trainer;
    this.backend = options.backend;
    this.masterAddress = options.masterAddress;
    this.masterPort = options.masterPort;
    this.groupName = options.groupName;
    this.worldSize = options.worldSize;
  }

  /** Lets the trainer listen for the servers' ranks. */
  static async open(
    trainer: TrainerConnection,
    options: OpenGroupOptions & { readonly backend: "gloo" | "nccl"; readonly timeoutMs: number },
    { signal }: TransportCall,
  ): Promise<TrainerGroup> {
    const { groupName: group, worldSize: world, backend, timeoutMs } = options;
    const { port } = await trainer.ask({ type: "group", group, world, backend, timeoutMs }, signal);
    if (!Number.isInteger(port) || (port as number) < 1 || (port as number) > 65535) {
      throw new StateError(`trainer ${trainer.name} listens at no port`);
    }
    return new TrainerGroup(trainer, { ...options, masterPort: port as number });
  }

  get failure(): Error | undefined {
    const { ended } = this.#trainer;
    return ended.aborted ? ended.reason : undefined;
  }

  async connect({ signal }: TransportCall): Promise<void> {
    await this.#trainer.ask({ type: "join", group: this.groupName }, signal);
  }

  /** Lets the trainer broadcast the tensors of a bucket. */
  async broadcastBucket(bucket: PlannedBucket, { signal }: TransportCall): Promise<void> {
    const tensors = bucket.tensors.map(({ sourceIndex }) => sourceIndex);
    const { flattened } = bucket;
    const { groupName: group } = this;
    await this.#trainer.ask({ type: "broadcast", group, tensors, flattened }, signal);
  }

  broadcast(): Promise<void> {
    return Promise.reject(new StateError("This process has none of the trainer's bytes"));
  }

  /** Waits a moment until the trainer has let go: servers that look for it are then turned away. */
  async abort(_reason: Error): Promise<void> {
    const late = new AbortController();
    const { clock } = this.#trainer;
    const wait = sleep(LET_GO_MS, { signal: late.signal, clock });
    await Promise.race([this.#leave(), wait]).catch(() => {});
    late.abort();
  }

  close(): Promise<void> {
    // The trainer reads it when it pushes next.
    this.#leave();
    return Promise.resolve();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #leave(): Promise<void> {
    if (this.#isOver) return;
    this.#isOver = true;
    const { ended } = this.#trainer;
    await this.#trainer.ask({ type: "leave", group: this.groupName }, ended).catch(() => {});
  }
}
