import { setImmediate } from "node:timers";
import { AbortedError, StateError } from "../../src/errors.ts";
import { sleep } from "../../src/internal/deadline.ts";
import { CopyKind } from "../cudart/constants.ts";
import type { DeviceBuffer, PinnedBuffer, Stream } from "../cudart/handles.ts";
import { Cudart } from "../cudart/mod.ts";
import { Kernels } from "../cuda/kernels.ts";
import { CudaDriver } from "../cuda/mod.ts";
import type { LibraryOptions } from "../library.ts";
import { type Address, nullAddress } from "../memory.ts";
import { STAGING_SLOTS } from "./constants.ts";
import { DeviceRing, type GatherTools, type LoadedParts } from "./device_ring.ts";
import { type CommunicatorHandle, Nccl } from "./mod.ts";
import { contains } from "./pieces.ts";
import { type DeviceRange, FlightRecorder, type RankInfo, type Requests } from "./protocol.ts";

/** How long a wait spins before it gives the thread's other messages turns. */
const SPIN_MS = 1;
/** How long it then looks again each turn, before it sleeps between two looks. */
const EAGER_MS = 50;
const SLEEP_MS = 1;
/** How long an abort waits for collectives that were asked for before it to be handed to NCCL. */
const HAND_OVER_MS = 500;
/** How long copies of memory that is not pinned may keep the thread from its other messages. */
const BUSY_MS = 5;

type Handlers = {
  [Name in keyof Requests]: (
    args: Requests[Name]["arguments"],
  ) => Requests[Name]["answer"] | Promise<Requests[Name]["answer"]>;
};

interface Opened {
  readonly cudart: Cudart;
  readonly nccl: Nccl | undefined;
  readonly stream: Stream;
  /** Where parts from the host go on their way to a broadcast. */
  readonly ring: DeviceRing;
  /** Where staged parts wait for theirs, so that other broadcasts do not overwrite them. */
  readonly staging: DeviceRing;
  readonly libraries: LibraryOptions;
  readonly device: number;
}

/**
 * One rank: its device, its communicator and all that it owns there. Lives on a thread of its own,
 * because CUDA's current device belongs to a thread. Its communicator never waits inside a native
 * call for a peer, so that an abort is heard between two looks at the state.
 */
export class RankThread {
  #opened: Opened | undefined;
  #recorder = new FlightRecorder();
  #communicator: CommunicatorHandle | undefined;
  #driver: CudaDriver | undefined;
  #kernels: Kernels | undefined;
  #aborted = false;
  readonly #buffers = new Map<Address, DeviceBuffer>();
  readonly #pinned: PinnedBuffer[] = [];
  /** Copies to the device, which read memory that must stay until they are done. */
  readonly #gathering = new Set<Promise<unknown>>();
  #joining: Promise<undefined> | undefined;
  /** Collectives that NCCL has not been told of yet, though peers may be waiting in them. */
  readonly #handingOver = new Set<Promise<unknown>>();
  /** The last of those, behind which the next is handed over. */
  #lastHandedOver: Promise<unknown> = Promise.resolve();
  /** Broadcasts that the device has not passed. */
  #broadcasts = 0;

  /** What each request does. */
  readonly handlers: Handlers = {
    open: (args) => this.#open(args),
    uniqueId: () => this.#recorder.during("ncclGetUniqueId", () => this.#nccl().uniqueId()),
    init: (args) => this.#init(args),
    broadcast: (args) => this.#broadcast(args),
    stage: ({ parts }) => this.#stage(parts),
    gather: (args) => this.#gather(args),
    pin: ({ address, byteLength }) => this.#pin(address, byteLength),
    allocate: ({ byteLength }) => this.#allocate(byteLength),
    free: ({ address }) => this.#free(address),
    copy: (args) => this.#copy(args),
    checksum: ({ address, byteLength }) => {
      const { stream } = this.#get();
      return this.#getKernels().checksum(address, { byteLength, stream });
    },
    findWord: ({ ranges }) => this.#getKernels().findWord(ranges, this.#get().stream),
    ipcHandle: ({ address }) => this.#ipcHandle(address),
    ipcOpen: (args) => this.#ipcOpen(args),
    freeBytes: () => this.#get().cudart.memoryInfo().freeBytes,
    abort: () => this.#abort(),
    close: () => this.#close(),
  };

  #get(): Opened {
    if (this.#opened === undefined) throw new StateError("The rank's thread is not open");
    return this.#opened;
  }

  #nccl(): Nccl {
    const { nccl } = this.#get();
    if (nccl === undefined) throw new StateError("The rank was opened without collectives");
    return nccl;
  }

  #open(args: Requests["open"]["arguments"]): RankInfo {
    const { libraries, device } = args;
    this.#recorder = new FlightRecorder(args.recorder);
    const { cudart, nccl } = this.#recorder.during("dlopen", () => ({
      cudart: Cudart.open(libraries),
      nccl: args.collectives ? Nccl.open(libraries) : undefined,
    }));
    this.#recorder.during("cudaSetDevice", () => cudart.setDevice(device));
    this.#opened = {
      cudart,
      nccl,
      stream: cudart.createStream(),
      ring: new DeviceRing(cudart, this.#recorder),
      staging: new DeviceRing(cudart, this.#recorder, STAGING_SLOTS),
      libraries,
      device,
    };
    return {
      ncclVersion: nccl?.version().text,
      ncclPath: nccl?.path,
      cudartPath: cudart.path,
      runtimeVersion: cudart.runtimeVersion(),
      driverVersion: cudart.driverVersion(),
    };
  }

  #init(args: Requests["init"]["arguments"]): Promise<undefined> {
    return this.#joining = this.#join(args);
  }

  async #join(args: Requests["init"]["arguments"]): Promise<undefined> {
    const nccl = this.#nccl();
    if (this.#communicator !== undefined) throw new StateError("The rank has a communicator");
    this.#communicator = this.#recorder.during(
      "ncclCommInitRankConfig",
      () => nccl.beginInit(args.uniqueId, args),
    );
    this.#recorder.communicator = this.#communicator.address;
    await this.#settle("ncclCommInitRankConfig");
  }

  async #broadcast(args: Requests["broadcast"]["arguments"]): Promise<undefined> {
    this.#broadcasts++;
    try {
      await this.#broadcastInOrder(args);
    } finally {
      this.#broadcasts--;
    }
    // Freeing waits for the device, which another broadcast may keep busy.
    if (this.#broadcasts > 0 || this.#opened === undefined) return;
    this.#opened.ring.collect();
    this.#opened.staging.collect();
  }

  /** Hands collectives over in the order in which they were asked for; waits for the device apart. */
  async #broadcastInOrder(args: Requests["broadcast"]["arguments"]): Promise<void> {
    const { cudart, stream, ring } = this.#get();
    const before = this.#lastHandedOver;
    const handingOver = before.then(() => this.#handOver(args, ring));
    this.#lastHandedOver = handingOver.catch(() => {});
    this.#handingOver.add(handingOver);
    try {
      await handingOver;
    } finally {
      this.#handingOver.delete(handingOver);
    }
    using done = cudart.createEvent();
    cudart.record(done, stream);
    await this.#until("ncclBroadcast", () => cudart.isDone(done));
  }

  async #handOver({ parts, root }: Requests["broadcast"]["arguments"], ring: DeviceRing) {
    // Asked for together with the joining, so that nothing can come in between.
    await this.#joining;
    if (parts.every(({ place }) => place === "device")) {
      await this.#enqueue(parts.map((part) => ({ part, address: part.address })), root);
      return;
    }
    const { cudart, stream } = this.#get();
    for (const batch of DeviceRing.batches(parts)) {
      const loaded = ring.load(batch);
      cudart.wait(stream, loaded.ready);
      await this.#enqueue(loaded.parts, root);
      loaded.release(stream);
    }
  }

  /** Single calls in order: broadcasts of different sizes in one NCCL group hang SGLang's ranks. */
  async #enqueue(parts: LoadedParts["parts"], root: number): Promise<void> {
    const { stream } = this.#get();
    const nccl = this.#nccl();
    for (const { part: { count, type }, address } of parts) {
      const communicator = this.#joined();
      this.#recorder.during(
        "ncclBroadcast",
        () => nccl.broadcast(communicator, address, { count, type, root, stream }),
      );
      await this.#settle("ncclBroadcast");
    }
  }

  async #stage(parts: Requests["stage"]["arguments"]["parts"]): Promise<DeviceRange[]> {
    const { cudart, staging } = this.#get();
    const { ranges, ready } = await this.#tracked(staging.gather(parts, this.#gatherTools()));
    await this.#until("cudaMemcpyAsync", () => cudart.isDone(ready));
    return ranges;
  }

  async #gather(args: Requests["gather"]["arguments"]): Promise<undefined> {
    const { cudart, staging } = this.#get();
    const gathered = staging.gatherAt(args.target, args.pieces, this.#gatherTools());
    const ready = await this.#tracked(gathered);
    await this.#until("cudaMemcpyAsync", () => cudart.isDone(ready));
    staging.collect();
  }

  async #tracked<T>(work: Promise<T>): Promise<T> {
    this.#gathering.add(work);
    try {
      return await work;
    } finally {
      this.#gathering.delete(work);
    }
  }

  #gatherTools(): GatherTools {
    const { cudart } = this.#get();
    let since = performance.now();
    const breathe = async () => {
      if (performance.now() - since < BUSY_MS) return;
      await yieldToLoop();
      if (this.#aborted || this.#opened === undefined) throw new AbortedError("stage");
      since = performance.now();
    };
    return {
      kernels: () => this.#getKernels(),
      isPinned: (bytes) => this.#pinned.some((pinned) => contains(pinned, bytes)),
      until: (event) => this.#until("cudaMemcpyAsync", () => cudart.isDone(event)),
      breathe,
    };
  }

  #pin(address: Address, byteLength: number): undefined {
    const { cudart } = this.#get();
    this.#pinned.push(
      this.#recorder.during("cudaHostRegister", () => cudart.pinAt(address, byteLength)),
    );
  }

  #allocate(byteLength: number): Address {
    const { cudart } = this.#get();
    const buffer = this.#recorder.during("cudaMalloc", () => cudart.allocate(byteLength));
    this.#buffers.set(buffer.address, buffer);
    return buffer.address;
  }

  #bufferAt(address: Address): DeviceBuffer {
    const buffer = this.#buffers.get(address);
    if (buffer === undefined) throw new StateError("The rank owns no device buffer there");
    return buffer;
  }

  #free(address: Address): undefined {
    const buffer = this.#bufferAt(address);
    this.#buffers.delete(address);
    this.#recorder.during("cudaFree", () => buffer[Symbol.dispose]());
  }

  async #copy(args: Requests["copy"]["arguments"]): Promise<undefined> {
    const { cudart, stream } = this.#get();
    const { target, source, byteLength } = args;
    this.#recorder.during(
      "cudaMemcpyAsync",
      () => cudart.copyAsync(target, source, { byteLength, kind: CopyKind.infer, stream }),
    );
    using done = cudart.createEvent();
    cudart.record(done, stream);
    await this.#until("cudaMemcpyAsync", () => cudart.isDone(done));
  }

  #ipcHandle(address: Address): Requests["ipcHandle"]["answer"] {
    const { cudart, device } = this.#get();
    const handle = cudart.ipcHandle(this.#bufferAt(address));
    return { handle, deviceUuid: this.#getDriver().deviceUuid(device) };
  }

  #ipcOpen({ handle, byteLength }: Requests["ipcOpen"]["arguments"]): Address {
    const { cudart } = this.#get();
    const buffer = cudart.openIpc(handle, byteLength);
    this.#buffers.set(buffer.address, buffer);
    return buffer.address;
  }

  /**
   * Drops the communicator. A peer waits in every collective that it was told of, and only one that
   * runs here too lets it go when it is aborted: so those are handed to NCCL first.
   */
  async #abort(): Promise<undefined> {
    if (this.#handingOver.size > 0) {
      const handedOver = Promise.allSettled(this.#handingOver);
      await Promise.race([handedOver, sleep(HAND_OVER_MS)]);
    }
    this.#aborted = true;
    const communicator = this.#communicator;
    this.#communicator = undefined;
    if (communicator === undefined) return;
    if (this.#recorder.takeCommunicator() === nullAddress) {
      communicator.disown();
      return;
    }
    this.#recorder.during("ncclCommAbort", () => communicator[Symbol.dispose]());
  }

  async #close(): Promise<undefined> {
    if (this.#communicator !== undefined) await this.#finalize(this.#communicator);
    if (this.#opened === undefined) return;
    const { stream, ring, staging } = this.#opened;
    this.#opened = undefined;
    await Promise.allSettled(this.#gathering);
    this.#recorder.during("cudaFree", () => {
      for (const buffer of this.#buffers.values()) buffer[Symbol.dispose]();
      for (const pinned of this.#pinned) pinned[Symbol.dispose]();
      for (const handle of [this.#kernels, ring, staging, stream]) handle?.[Symbol.dispose]();
    });
  }

  async #finalize(communicator: CommunicatorHandle): Promise<void> {
    const nccl = this.#nccl();
    this.#recorder.during("ncclCommFinalize", () => nccl.beginFinalize(communicator));
    await this.#settle("ncclCommFinalize");
    this.#communicator = undefined;
    if (this.#recorder.takeCommunicator() === nullAddress) return communicator.disown();
    this.#recorder.during("ncclCommDestroy", () => nccl.destroy(communicator));
  }

  /** The communicator, unless this or another thread has aborted it. */
  #joined(): CommunicatorHandle {
    if (this.#communicator === undefined && !this.#aborted) {
      throw new StateError("The rank has no communicator");
    }
    if (this.#communicator === undefined || this.#recorder.communicator === nullAddress) {
      throw new AbortedError("communicator");
    }
    return this.#communicator;
  }

  #settle(call: string): Promise<void> {
    return this.#until(call, () => this.#nccl().isSettled(this.#joined(), call));
  }

  /** Waits until `isDone`, and meanwhile notices an abort and a failed communicator. */
  async #until(call: string, isDone: () => boolean): Promise<void> {
    const start = performance.now();
    while (!isDone()) {
      const waitedMs = performance.now() - start;
      if (waitedMs < SPIN_MS) continue;
      await (waitedMs < EAGER_MS ? yieldToLoop() : sleep(SLEEP_MS));
      if (this.#aborted) throw new AbortedError(call);
      if (this.#communicator !== undefined) this.#nccl().isSettled(this.#joined(), call);
    }
  }

  #getDriver(): CudaDriver {
    return this.#driver ??= CudaDriver.open(this.#get().libraries);
  }

  #getKernels(): Kernels {
    const { cudart } = this.#get();
    return this.#kernels ??= this.#recorder.during(
      "cuModuleLoadDataEx",
      () => new Kernels(cudart, this.#getDriver()),
    );
  }
}

/** Lets the thread's other messages come in. A timer, even of 0 ms, would take 2 ms. */
function yieldToLoop(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
