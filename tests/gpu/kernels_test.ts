import { deepEqual, equal, ok } from "node:assert/strict";
import { CopyKind } from "../../ffi/cudart/constants.ts";
import { Cudart } from "../../ffi/cudart/mod.ts";
import { Kernels } from "../../ffi/cuda/kernels.ts";
import { CudaDriver } from "../../ffi/cuda/mod.ts";
import { castBits, checksumOf, findWordIn } from "../../ffi/cuda/reference.ts";
import { quantiseBlocks } from "../../src/weights/source/float8.ts";
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

Deno.test("the search for words equals its reference, for any size, alignment and pattern", () => {
  using kernels = new Kernels(cudart, driver);
  using stream = cudart.createStream();
  using buffer = cudart.allocate(40 * 2 ** 20);
  const half = { mask: 0x7f807f80, add: 0x00800080, test: 0x80008000, step: 1 as const };
  const double = { mask: 0x7ff00000, add: 0x00100000, test: 0x80000000, step: 2 as const };
  const float8 = { mask: 0x7f7f7f7f, add: 0x01010101, test: 0x80808080, step: 1 as const };
  let found = 0;
  for (const pattern of [half, double, float8]) {
    for (const byteLength of [0, 1, 2, 3, 7, 4096, 4098, 8 * 131072, (8 * 2 ** 20) + 6]) {
      for (const offset of [0, 1, 2]) {
        // Nothing to be found, then a word near the end, then another before it.
        const bytes = new Uint8Array(byteLength).fill(0x21);
        for (const at of [-1, byteLength - 3, Math.floor(byteLength / 3)]) {
          if (at >= 0) bytes.fill(0x7f, at, at + 2), bytes.fill(0xff, at + 2, at + 3);
          const address = buffer.address + BigInt(64 + offset);
          if (byteLength > 0) {
            const from = cudart.memory.addressOf(bytes);
            cudart.copy(address, from, { byteLength, kind: CopyKind.hostToDevice });
          }
          const expected = findWordIn(bytes, pattern);
          const empty = { device: { address, byteLength: 0 }, ...pattern };
          const got = kernels.findWord(
            [empty, { device: { address, byteLength }, ...pattern }],
            stream,
          );
          deepEqual(got, expected && { range: 1, ...expected });
          if (got !== undefined) found++;
        }
      }
    }
  }
  ok(found > 40, `${found}`);
});

Deno.test("FP8 in blocks equals its reference, of both types, for any shape, and finds NaN", async () => {
  using kernels = new Kernels(cudart, driver);
  using stream = cudart.createStream();
  const shapes = [[1, 1], [127, 129], [128, 128], [130, 4], [896, 4864], [300, 1000], [3, 257]];
  for (const [index, [rows, columns]] of shapes.entries()) {
    for (const from of ["bfloat16", "float32"] as const) {
      const count = rows! * columns!;
      const bits = new Uint32Array(pattern(4 * count, 7 + index).buffer);
      // Finite numbers of every magnitude, some blocks small, some zero.
      const floats = Float32Array.from(bits, (word, i) => {
        const magnitude = ((word & 0xffff) / 65536 - 0.5) * 2 ** ((word >>> 16) % 24 - 20);
        return i % columns! < 128 && index === 5 ? 0 : magnitude;
      });
      const halves = castBits(new Uint32Array(floats.buffer));
      const bytes = new Uint8Array(from === "float32" ? floats.buffer : halves.buffer);
      const scaleCount = Math.ceil(rows! / 128) * Math.ceil(columns! / 128);
      const expected = { values: new Uint8Array(count), scales: new Float32Array(scaleCount) };
      const matrix = { name: "w", dtype: from, shape: [rows!, columns!] };
      await quantiseBlocks(matrix, bytes, expected);
      using source = cudart.allocate(bytes.byteLength);
      using values = cudart.allocate(count);
      using scales = cudart.allocate(4 * scaleCount);
      cudart.copy(source.address, cudart.memory.addressOf(bytes), {
        byteLength: bytes.byteLength,
        kind: CopyKind.hostToDevice,
      });
      const options = { name: "w", from, rows: rows!, columns: columns!, id: 5, stream };
      kernels.beginFloat8(stream);
      kernels.float8(values.address, source.address, { ...options, part: "values" });
      kernels.float8(scales.address, source.address, { ...options, part: "scales" });
      equal(kernels.endFloat8(stream), undefined);
      const got = { values: new Uint8Array(count), scales: new Float32Array(scaleCount) };
      for (const [to, at] of [[got.values, values], [got.scales, scales]] as const) {
        const target = cudart.memory.addressOf(new Uint8Array(to.buffer));
        const kind = CopyKind.deviceToHost;
        cudart.copy(target, at.address, { byteLength: to.byteLength, kind });
      }
      deepEqual(got.scales, expected.scales);
      const wrong = got.values.findIndex((value, i) => value !== expected.values[i]);
      equal(wrong, -1, `${rows} by ${columns} ${from}: element ${wrong}`);
      const nan = from === "float32" ? Uint8Array.of(0, 0, 0xc0, 0x7f) : Uint8Array.of(0x80, 0x7f);
      cudart.copy(
        source.address + BigInt(bytes.byteLength - nan.byteLength),
        cudart.memory.addressOf(nan),
        { byteLength: nan.byteLength, kind: CopyKind.hostToDevice },
      );
      kernels.beginFloat8(stream);
      kernels.float8(values.address, source.address, { ...options, part: "values" });
      equal(kernels.endFloat8(stream), 5);
    }
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
    findWordGBs: rate(
      4 * count,
      () =>
        kernels.findWord([{
          device: { address: source.address, byteLength: 4 * count },
          ...{ mask: 0, add: 0, test: 1, step: 1 as const },
        }], stream),
    ),
    // Bytes read once and written once: of 16384 by 16384 float32.
    float8GBs: rate(
      5 * count,
      () =>
        kernels.float8(target.address, source.address, {
          ...{ name: "w", from: "float32", part: "values", id: 0, stream } as const,
          ...{ rows: 16384, columns: 16384 },
        }),
    ),
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
