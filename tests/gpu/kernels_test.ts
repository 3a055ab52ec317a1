import { equal } from "node:assert/strict";
import { CopyKind } from "../../ffi/cudart/constants.ts";
import { Cudart } from "../../ffi/cudart/mod.ts";
import { Kernels } from "../../ffi/cuda/kernels.ts";
import { CudaDriver } from "../../ffi/cuda/mod.ts";
import { castBits, checksumOf } from "../../ffi/cuda/reference.ts";
import { libraries, median, pattern, record } from "./support/gpu.ts";

const cudart = Cudart.open(libraries);
cudart.setDevice(0);
const driver = CudaDriver.open(libraries);

/** Every pattern of the upper half with the lower halves around the rounding boundary. */
function castEdges(): Uint32Array<ArrayBuffer> {
  const lower = [0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xffff];
  const bits = new Uint32Array(65536 * lower.length);
  for (let upper = 0; upper < 65536; upper++) {
    lower.forEach((low, i) => bits[upper * lower.length + i] = (upper << 16 | low) >>> 0);
  }
  return bits;
}

Deno.test("the cast kernel equals its reference on every upper half and on random bits", () => {
  using kernels = new Kernels(cudart, driver);
  using stream = cudart.createStream();
  const random = new Uint32Array(pattern(64 * 2 ** 20).buffer);
  for (const bits of [castEdges(), random]) {
    using source = cudart.allocate(bits.byteLength);
    using target = cudart.allocate(bits.byteLength / 2);
    const from = cudart.memory.addressOf(new Uint8Array(bits.buffer));
    const byteLength = bits.byteLength;
    cudart.copy(source.address, from, { byteLength, kind: CopyKind.hostToDevice });
    kernels.cast(target.address, source.address, { count: bits.length, stream });
    cudart.synchronize(stream);
    const cast = new Uint16Array(bits.length);
    const to = cudart.memory.addressOf(new Uint8Array(cast.buffer));
    cudart.copy(to, target.address, { byteLength: byteLength / 2, kind: CopyKind.deviceToHost });
    const expected = castBits(bits);
    for (let i = 0; i < cast.length; i++) {
      if (cast[i] !== expected[i]) equal([bits[i], cast[i]], [bits[i], expected[i]]);
    }
  }
});

Deno.test("the checksum kernel equals its reference for sizes around its steps", () => {
  using kernels = new Kernels(cudart, driver);
  using stream = cudart.createStream();
  using buffer = cudart.allocate(80 * 2 ** 20);
  const sizes = [0, 1, 2, 3, 4, 5, 1023, 1024, 1027, 4 * 256 * 4096, 4 * 256 * 4096 + 3, 80 << 20];
  for (const byteLength of sizes) {
    const bytes = pattern(byteLength, byteLength + 1);
    const from = cudart.memory.addressOf(bytes);
    cudart.copy(buffer.address, from, { byteLength, kind: CopyKind.hostToDevice });
    equal(kernels.checksum(buffer.address, { byteLength, stream }), checksumOf(bytes));
  }
});

Deno.test("the kernels' rates are recorded", () => {
  using kernels = new Kernels(cudart, driver);
  using stream = cudart.createStream();
  using start = cudart.createEvent({ timing: true });
  using end = cudart.createEvent({ timing: true });
  const count = 2 ** 28;
  using source = cudart.allocate(4 * count);
  using target = cudart.allocate(2 * count);
  const rate = (bytes: number, run: () => void) => {
    const rates = [0, 1, 2, 3, 4].map(() => {
      cudart.record(start, stream);
      run();
      cudart.record(end, stream);
      cudart.synchronize(stream);
      return bytes / cudart.elapsedMs(start, end) / 1e6;
    });
    return Math.round(median(rates));
  };
  record("kernels", {
    castGBs: rate(6 * count, () => kernels.cast(target.address, source.address, { count, stream })),
    checksumGBs: rate(
      4 * count,
      () => kernels.checksum(source.address, { byteLength: 4 * count, stream }),
    ),
  });
});

Deno.test("the cost of a call through the FFI is recorded", () => {
  using stream = cudart.createStream();
  const calls = 200_000;
  for (let i = 0; i < 10_000; i++) cudart.isIdle(stream);
  const start = performance.now();
  for (let i = 0; i < calls; i++) cudart.isIdle(stream);
  record("ffiCall", {
    cudaStreamQueryNs: Math.round((performance.now() - start) / calls * 1e6),
    device: driver.deviceUuid(0).length,
    runtime: cudart.runtimeVersion(),
    driver: cudart.driverVersion(),
  });
});
