import { deepEqual, equal, ok } from "node:assert/strict";
import { Buffer } from "node:buffer";
import { Event, PinnedBuffer, Stream } from "../../../ffi/cudart/handles.ts";
import type { Cudart } from "../../../ffi/cudart/mod.ts";
import { PinnedRelay, RELAY_BYTES } from "../../../ffi/nccl/pinned_relay.ts";
import { FlightRecorder } from "../../../ffi/nccl/protocol.ts";
import { NativeError } from "../../../src/errors.ts";

const MIB = 2 ** 20;
/** Where things lie in the memory of {@linkcode FakeCuda}: this process's, pinned, the device's. */
const SOURCE = 0;
const PINNED = 80 * MIB;
const DEVICE = 160 * MIB;

/** Memory in which addresses are places, and a device that copies when it is told to. */
class FakeCuda {
  readonly bytes = new Uint8Array(240 * MIB);
  readonly events = new Map<Event, boolean>();
  readonly waiting: (() => void)[] = [];
  readonly log: string[] = [];
  pinnable = 2;
  filling = 0;
  mostFilling = 0;
  #pinned = 0;

  readonly memory = {
    copyAside: async (target: bigint, source: bigint, length: number): Promise<void> => {
      this.mostFilling = Math.max(this.mostFilling, ++this.filling);
      await Promise.resolve();
      this.#move(target, source, length);
      this.filling--;
    },
  };

  allocatePinned(byteLength: number): PinnedBuffer {
    if (this.#pinned === this.pinnable) {
      throw new NativeError("cudaMallocHost failed with 2", { call: "cudaMallocHost", result: 2 });
    }
    const address = BigInt(PINNED + this.#pinned++ * RELAY_BYTES);
    const free = () => void this.log.push("free");
    return new PinnedBuffer(address, { byteLength, free, bytes: undefined });
  }

  createEvent(): Event {
    const event = new Event(1n, () => {});
    this.events.set(event, true);
    return event;
  }

  copyAsync(target: bigint, source: bigint, { byteLength }: { byteLength: number }): void {
    this.log.push(source >= PINNED ? `slot ${(Number(source) - PINNED) / RELAY_BYTES}` : "plain");
    this.waiting.push(() => this.#move(target, source, byteLength));
  }

  record(event: Event): void {
    this.events.set(event, false);
    this.waiting.push(() => this.events.set(event, true));
  }

  /** The device does what it was given. */
  run(): void {
    for (const step of this.waiting.splice(0)) step();
  }

  readonly until = (event: Event): Promise<void> => {
    if (!this.events.get(event)) {
      this.log.push("wait");
      this.run();
    }
    return Promise.resolve();
  };

  #move(target: bigint, source: bigint, length: number): void {
    this.bytes.copyWithin(Number(target), Number(source), Number(source) + length);
  }
}

function openRelay(cuda: FakeCuda): PinnedRelay {
  const stream = new Stream(1n, () => {});
  stream.disown();
  return new PinnedRelay(cuda as unknown as Cudart, stream, new FlightRecorder());
}

/** Copies the source to the device in pieces of one slot at most, as the ring does. */
async function copyAll(cuda: FakeCuda, relay: PinnedRelay, byteLength: number): Promise<void> {
  for (let at = 0; at < byteLength; at += RELAY_BYTES) {
    await relay.copy({
      target: BigInt(DEVICE + at),
      source: BigInt(SOURCE + at),
      byteLength: Math.min(RELAY_BYTES, byteLength - at),
      until: cuda.until,
    });
  }
  cuda.run();
}

/** Fills the source with bytes that are elsewhere others; tells whether the device has them. */
function pattern(cuda: FakeCuda, byteLength: number) {
  const source = cuda.bytes.subarray(SOURCE, SOURCE + byteLength);
  // Repeats at no multiple of what slots and threads take.
  let filled = Math.min(byteLength, MIB + 12);
  source.subarray(0, filled).forEach((_, i, all) => all[i] = (i * 2654435761) >>> 24);
  for (; filled < byteLength; filled *= 2) source.copyWithin(filled, 0, filled);
  return () => Buffer.compare(source, cuda.bytes.subarray(DEVICE, DEVICE + byteLength)) === 0;
}

Deno.test("a relay takes two slots in turn and waits before it fills one that is being read", async () => {
  const cuda = new FakeCuda();
  const relay = openRelay(cuda);
  const byteLength = 2 * RELAY_BYTES + 4 * MIB + 12;
  const hasArrived = pattern(cuda, byteLength);
  await copyAll(cuda, relay, byteLength);
  ok(hasArrived());
  deepEqual(cuda.log, ["slot 0", "slot 1", "wait", "slot 0"]);
  relay[Symbol.dispose]();
  deepEqual(cuda.log.slice(4), ["free", "free"]);
});

Deno.test("several threads fill a slot, but one where it is small", async () => {
  for (const [byteLength, threads] of [[RELAY_BYTES, 8], [3 * MIB, 3], [MIB, 1]] as const) {
    const cuda = new FakeCuda();
    using relay = openRelay(cuda);
    const hasArrived = pattern(cuda, byteLength);
    await copyAll(cuda, relay, byteLength);
    ok(hasArrived());
    equal(cuda.mostFilling, threads);
  }
});

Deno.test("memory that cannot be pinned does not stop a copy", async () => {
  for (const pinnable of [0, 1]) {
    const cuda = new FakeCuda();
    cuda.pinnable = pinnable;
    using relay = openRelay(cuda);
    const hasArrived = pattern(cuda, 2 * RELAY_BYTES);
    await copyAll(cuda, relay, 2 * RELAY_BYTES);
    ok(hasArrived());
    deepEqual(cuda.log, pinnable === 0 ? ["plain", "plain"] : ["slot 0", "plain"]);
  }
});
