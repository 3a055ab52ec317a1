/** Device memory of a trainer: what is mapped, where tensors lie, and that all of it is let go. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { type MemoryMapper, TrainerLink } from "../../../src/trainer/mod.ts";
import { readMemory } from "../../../src/trainer/device_maps.ts";
import { randomTensors, RawTrainer } from "../../_support/raw_trainer.ts";

const AT = "tcp:127.0.0.1:0";
const handle = (digit: string) => digit.repeat(128);

/** Maps nothing; the memory of handle "aa…" lies at 0xaa000000, and so on. */
class Mapper implements MemoryMapper {
  readonly mapped: bigint[] = [];
  fails = false;
  isClosed = false;

  map(bytes: Uint8Array<ArrayBuffer>): Promise<bigint> {
    if (this.fails && this.mapped.length === 1) return Promise.reject(new Error("no peer access"));
    this.mapped.push(BigInt(bytes[0]!) << 24n);
    return Promise.resolve(this.mapped.at(-1)!);
  }

  unmap(address: bigint): Promise<void> {
    this.mapped.splice(this.mapped.indexOf(address), 1);
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

const memory = {
  allocations: [[handle("a"), 4096], [handle("b"), 100]],
  tensors: [[0, 1024], [1, 0], null],
};

Deno.test("tensors on a GPU are found in the mapped allocations, others are sent", async () => {
  const mapper = new Mapper();
  {
    await using link = await TrainerLink.listen(AT, {
      cuda: { openMapper: () => Promise.resolve(mapper) },
    });
    using trainer = await RawTrainer.greeted(link.address, { way: "cuda-ipc" });
    const tensors = randomTensors([500, 100, 30]);
    await trainer.offer(1, tensors, "1", memory);
    const push = await link.nextPush();
    assert.equal(push.way, "cuda-ipc");
    {
      await using open = await push.source.open();
      assert.deepEqual(open.device!(0), [{ address: 0xaa000400n, byteLength: 500 }]);
      assert.deepEqual(open.device!(1), [{ address: 0xbb000000n, byteLength: 100 }]);
      assert.equal(open.device!(2), undefined);
      const target = new Uint8Array(30);
      const read = open.read(2, target, { signal: new AbortController().signal });
      await trainer.await("want");
      await trainer.bytes(1, tensors[2]!.data);
      await read;
      assert.deepEqual(target, tensors[2]!.data);
      assert.equal(mapper.mapped.length, 2);
    }
    assert.deepEqual(mapper.mapped, [], "let go with the sync");
    mapper.fails = true;
    await assert.rejects(push.source.open(), { message: "no peer access" });
    assert.deepEqual(mapper.mapped, [], "what was mapped before the failure is let go too");
    await push.failed(new Error("no peer access"));
    assert.equal((await trainer.await("failed")).message, "no peer access");
  }
  assert.ok(mapper.isClosed);
});

Deno.test("shards are pieces in order; what a trainer keeps stays mapped until it pushes others", async () => {
  const mapper = new Mapper();
  let opened = 0;
  await using link = await TrainerLink.listen(AT, {
    cuda: { openMapper: () => Promise.resolve(mapper) },
  });
  const tensors = randomTensors([500, 100, 30]);
  const kept = {
    ...memory,
    tensors: [[[0, 0, 300], [1, 0, 100], [0, 1000, 100]], [1, 0], null],
    keep: true,
  };
  const pushOnce = async (trainer: RawTrainer, id: number, given: object) => {
    await trainer.offer(id, tensors, `${++opened}`, given);
    const push = await link.nextPush();
    const open = await push.source.open();
    const places = [0, 1].map((i) => open.device!(i));
    await open[Symbol.asyncDispose]();
    await push.failed(new Error("next"));
    await trainer.await("failed");
    return places;
  };
  {
    using trainer = await RawTrainer.greeted(link.address, { way: "cuda-ipc" });
    const map = mapper.map.bind(mapper);
    let maps = 0;
    mapper.map = (bytes) => (maps++, map(bytes));
    for (const id of [1, 2, 3]) {
      assert.deepEqual(await pushOnce(trainer, id, kept), [
        [
          { address: 0xaa000000n, byteLength: 300 },
          { address: 0xbb000000n, byteLength: 100 },
          { address: 0xaa0003e8n, byteLength: 100 },
        ],
        [{ address: 0xbb000000n, byteLength: 100 }],
      ]);
    }
    assert.equal(maps, 2, "once, and not for each push");
    const others = { ...kept, allocations: [[handle("a"), 4096], [handle("c"), 100]] };
    await pushOnce(trainer, 4, others);
    assert.deepEqual(mapper.mapped, [0xaa000000n, 0xcc000000n], "what is pushed no more is let go");
    await trainer.say({ type: "release" });
    await pushOnce(trainer, 5, kept);
    assert.equal(maps, 5, "nothing of it was left");
  }
  await link.close();
  assert.deepEqual(mapper.mapped, [], "let go with the connection");
});

Deno.test("memory that is malformed, or pushed by another way, ends the connection", async () => {
  for (
    const bad of [
      { ...memory, tensors: [[0, 4000], [1, 0], null] },
      { ...memory, tensors: [[0, -1], [1, 0], null] },
      { ...memory, tensors: [[2, 0], [1, 0], null] },
      { ...memory, tensors: [[0, 0]] },
      { ...memory, allocations: [["zz", 4096], [handle("b"), 100]] },
      { ...memory, allocations: [[handle("a"), 0], [handle("b"), 100]] },
      { ...memory, tensors: [[[0, 0, 400], [1, 0, 101]], [1, 0], null] },
      { ...memory, tensors: [[[0, 0, 400], [1, 50, 100]], [1, 0], null] },
      { ...memory, tensors: [[[0, 0, 600], [1, 0, -100]], [1, 0], null] },
      { ...memory, tensors: [[[0, 0, 400]], [1, 0], null] },
      { ...memory, tensors: [Array(5000).fill([0, 0, 0]), [1, 0], null] },
      { ...memory, keep: "yes" },
      { allocations: 1, tensors: 2 },
    ]
  ) {
    await using link = await TrainerLink.listen(AT, {
      cuda: { openMapper: () => Promise.resolve(new Mapper()) },
    });
    using trainer = await RawTrainer.greeted(link.address, { way: "cuda-ipc" });
    await trainer.offer(1, randomTensors([500, 100, 30]), "1", bad);
    assert.ok(await trainer.isClosed(), JSON.stringify(bad));
  }
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  await trainer.offer(1, randomTensors([500, 100, 30]), "1", memory);
  assert.ok(await trainer.isClosed());
});

Deno.test("the way is offered only where a device is given", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address, { way: "cuda-ipc" });
  const { type, message } = await trainer.hear();
  assert.deepEqual([type, message], ["refused", "trainer raw chose a way not offered"]);
});

Deno.test("whatever is said of memory is read or refused, and no tensor leaves its allocation", () => {
  const tensors = [{ name: "w", dtype: "float32", shape: [4] }] as const;
  fc.assert(fc.property(
    fc.record({
      allocations: fc.oneof(
        fc.array(fc.tuple(fc.constant(handle("a")), fc.integer({ min: -5, max: 64 }))),
        fc.anything(),
      ),
      tensors: fc.oneof(
        fc.tuple(fc.tuple(fc.integer({ min: -1, max: 3 }), fc.integer({ min: -8, max: 64 }))),
        fc.tuple(fc.array(fc.tuple(
          fc.integer({ min: -1, max: 1 }),
          fc.integer({ min: -1, max: 8 }),
          fc.constantFrom(-4, 0, 4, 8, 16),
        ))),
        fc.anything(),
      ),
    }),
    (value) => {
      try {
        const { allocations, places } = readMemory(value, tensors);
        const [pieces] = places;
        if (pieces === undefined) return;
        for (const { allocation, offset, byteLength } of pieces) {
          assert.equal((offset % 4) + (byteLength % 4), 0);
          assert.ok(offset >= 0 && offset + byteLength <= allocations[allocation]!.byteLength);
        }
        assert.equal(pieces.reduce((sum, { byteLength }) => sum + byteLength, 0), 16);
      } catch (error) {
        assert.equal((error as { code?: string }).code, "protocol", String(error));
      }
    },
  ));
});
