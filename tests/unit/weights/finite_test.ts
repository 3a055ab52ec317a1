/** Weights that hold NaN or infinities are found, whatever their type and place. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { float32ToBFloat16 } from "../../../src/checkpoint/convert.ts";
import { type DType, itemSizeBytes } from "../../../src/checkpoint/dtype.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { stateDict, weightIterator } from "../../../src/weights/source/mod.ts";
import { castToBFloat16 } from "../../../src/weights/source/cast.ts";
import { findNonFinite, requireFinite } from "../../../src/weights/sync/finite.ts";
import { findWordIn } from "../../../ffi/cuda/reference.ts";
import { recordingGroups, weightsStandIn } from "../../_support/weights_stand_in.ts";

/** What a type's values are, by their bits: the plain definition that the fast scan must agree with. */
const isNonFinite: Record<string, (bits: bigint) => boolean> = {
  float64: (bits) => ((bits >> 52n) & 0x7ffn) === 0x7ffn,
  float32: (bits) => ((bits >> 23n) & 0xffn) === 0xffn,
  bfloat16: (bits) => ((bits >> 7n) & 0xffn) === 0xffn,
  float16: (bits) => ((bits >> 10n) & 0x1fn) === 0x1fn,
  float8_e4m3fn: (bits) => (bits & 0x7fn) === 0x7fn,
  float8_e5m2: (bits) => ((bits >> 2n) & 0x1fn) === 0x1fn,
  int32: () => false,
};

function elementsOf(bytes: Uint8Array, size: number): bigint[] {
  return Array.from({ length: bytes.length / size }, (_, i) => {
    let bits = 0n;
    for (let b = size - 1; b >= 0; b--) bits = (bits << 8n) | BigInt(bytes[i * size + b]!);
    return bits;
  });
}

Deno.test("the first NaN or infinity is found in every type, at every place and alignment", async () => {
  const types = Object.keys(isNonFinite) as DType[];
  const cases = fc.record({
    dtype: fc.constantFrom(...types),
    bytes: fc.uint8Array({ minLength: 0, maxLength: 9000 }),
    offset: fc.nat(3),
    // Mostly small numbers, so that what is found is not always the first element.
    calm: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ dtype, bytes, offset, calm }) => {
      const size = itemSizeBytes(dtype);
      const memory = new Uint8Array(offset + bytes.length - bytes.length % size);
      memory.set(bytes.subarray(0, memory.length - offset), offset);
      if (calm) {
        memory.forEach((value, i) => memory[i] = i < memory.length - 9 ? value & 0x33 : value);
      }
      const view = memory.subarray(offset);
      const expected = elementsOf(view, size).findIndex(isNonFinite[dtype]!);
      assert.equal(await findNonFinite(view, { dtype }), expected);
    }),
    { numRuns: 400 },
  );
});

Deno.test("a float32 that becomes an infinity as bfloat16 is found before the cast", async () => {
  const bits = fc.array(
    fc.oneof(fc.nat(0xffffffff), fc.integer({ min: 0x7f7f0000, max: 0x7f800010 })),
    {
      maxLength: 20,
    },
  );
  await fc.assert(
    fc.asyncProperty(bits, async (list) => {
      const words = Uint32Array.from(list);
      const cast = float32ToBFloat16(new Float32Array(words.buffer));
      const expected = [...cast].findIndex((half) => (half & 0x7f80) === 0x7f80);
      const bytes = new Uint8Array(words.buffer);
      assert.equal(
        await findNonFinite(bytes, { dtype: "bfloat16", castFrom: "float32" }),
        expected,
      );
    }),
    { numRuns: 300 },
  );
});

const healthy = Float32Array.of(1, 2, 3, 4);
const broken = Float32Array.of(1, NaN, 3, 4);

function weightsWith(last: Float32Array) {
  return { a: { data: healthy, shape: [4] }, b: { data: last, shape: [4] } };
}

function scheme(url: string, options = {}) {
  return new SGLangWeightSyncScheme({
    serverUrl: url,
    env: () => undefined,
    nameCheck: "off",
    bucketBytes: 8,
    openGroup: recordingGroups().openGroup,
    ...options,
  });
}

const options = [{}, { verify: "sample" }, { verify: "version", finite: true }, {
  finite: true,
  castFloat32To: "bfloat16",
}] as const;

for (const option of options) {
  Deno.test(`NaN in memory is refused before anything is sent: ${JSON.stringify(option)}`, async () => {
    await using server = weightsStandIn();
    await using sender = scheme(server.url, option).createSender();
    await sender.initAllWorkersGroup();
    await assert.rejects(sender.updateWeights(stateDict(weightsWith(broken))), {
      code: "validation",
      message: /Weight "b".*NaN or an infinity at element 1/,
    });
    const touched = server.calls.filter((call) => /pause|update_weight/.test(call));
    assert.deepEqual(touched, []);
  });
}

Deno.test("a source that gives its tensors once is refused as it gives NaN, before the version", async () => {
  for (const cast of [false, true]) {
    await using server = weightsStandIn();
    await using sender = scheme(server.url, { finite: true }).createSender();
    await sender.initAllWorkersGroup();
    const plain = weightIterator(function* () {
      for (const [name, tensor] of Object.entries(weightsWith(broken))) yield { name, ...tensor };
    });
    await assert.rejects(
      sender.updateWeights(cast ? castToBFloat16(plain) : plain),
      /NaN or an infinity/,
    );
    assert.notEqual(server.weightVersion, "1");
  }
});

Deno.test("told not to look, NaN travels; else finite weights do, and the report says so", async () => {
  await using server = weightsStandIn();
  await using sender = scheme(server.url, { finite: false }).createSender();
  await sender.initAllWorkersGroup();
  assert.equal((await sender.updateWeights(stateDict(weightsWith(broken)))).finite, false);
  await using strict = scheme(server.url).createSender();
  await strict.initAllWorkersGroup();
  assert.equal((await strict.updateWeights(stateDict(weightsWith(healthy)))).finite, true);
});

Deno.test("who proves the version alone has up to 1 GiB looked at, and is told of more", async () => {
  const looked: number[] = [];
  const openOf = (elements: number) => ({
    tensors: [{ name: "w", dtype: "bfloat16" as const, shape: [elements] }],
    view: (index: number) => {
      looked.push(index);
      return new Uint8Array(8);
    },
    read: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  });
  for (const [elements, isComplete] of [[2 ** 29, true], [2 ** 29 + 1, false]] as const) {
    const open = openOf(elements);
    const source = { label: "large", open: () => Promise.resolve(open) };
    const how = { sourceIndexes: [0], choice: "where_small" as const, signal: undefined };
    assert.equal((await requireFinite(source, open, how)).isComplete, isComplete);
  }
  assert.deepEqual(looked, [0]);
});

Deno.test("memory of a GPU is not looked at: asked for, it is refused; by default it is said", async () => {
  await using server = weightsStandIn();
  const device = {
    device: { address: 512n, byteLength: 16 },
    dtype: "float32",
    shape: [4],
  } as const;
  await using sender = scheme(server.url, { finite: true }).createSender();
  await sender.initAllWorkersGroup();
  await assert.rejects(sender.updateWeights(stateDict({ device })), {
    code: "unsupported",
    message: /lies in device memory, whose values are not looked at/,
  });
});

Deno.test("in memory of a GPU the first NaN or infinity is told, in whichever piece of a tensor", async () => {
  const types = Object.keys(isNonFinite) as DType[];
  const tensor = fc.record({
    dtype: fc.constantFrom(...types),
    pieces: fc.array(fc.uint8Array({ minLength: 1, maxLength: 90 }), {
      minLength: 1,
      maxLength: 3,
    }),
    calm: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(tensor, { minLength: 1, maxLength: 4 }), async (tensors) => {
      const memory = new Map<bigint, Uint8Array>();
      const places = tensors.map(({ dtype, pieces, calm }) => {
        const size = itemSizeBytes(dtype);
        return pieces.map((bytes) => {
          const whole = bytes.subarray(0, bytes.length - bytes.length % size)
            .map((value) => calm ? value & 0x33 : value);
          const address = BigInt(64 + 1024 * memory.size);
          memory.set(address, whole);
          return { address, byteLength: whole.length };
        });
      });
      const infos = tensors.map(({ dtype }, i) => {
        const bytes = places[i]!.reduce((sum, { byteLength }) => sum + byteLength, 0);
        return { name: `w${i}`, dtype, shape: [bytes / itemSizeBytes(dtype)] };
      });
      const open = {
        tensors: infos,
        view: () => undefined,
        device: (index: number) => places[index]!,
        read: () => Promise.reject(new Error("memory of a GPU is read")),
        [Symbol.asyncDispose]: () => Promise.resolve(),
      };
      const bad = tensors.map(({ dtype }, i) => {
        const bytes = places[i]!.flatMap(({ address }) => [...memory.get(address)!]);
        return elementsOf(Uint8Array.from(bytes), itemSizeBytes(dtype))
          .findIndex(isNonFinite[dtype]!);
      });
      const checked = requireFinite({ label: "test", open: () => Promise.resolve(open) }, open, {
        sourceIndexes: [...tensors.keys()],
        choice: true,
        signal: undefined,
        finder: () =>
          Promise.resolve((ranges) => {
            for (const [range, one] of ranges.entries()) {
              const found = findWordIn(memory.get(one.device.address)!, one);
              if (found !== undefined) return Promise.resolve({ range, ...found });
            }
            return Promise.resolve(undefined);
          }),
      });
      const first = bad.findIndex((index) => index >= 0);
      if (first < 0) return assert.equal((await checked).isComplete, true);
      await assert.rejects(checked, {
        code: "validation",
        message: new RegExp(`"w${first}".*at element ${bad[first]}:`),
      });
    }),
    { numRuns: 300 },
  );
});
