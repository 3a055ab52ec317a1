/** Weights through shared memory: what a trainer says of slots is checked before a byte is copied. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { FakeClock } from "../../_support/clock.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import { TrainerConnection } from "../../../src/trainer/connection.ts";
import { encodeHead, encodeMessage, FrameKind, FrameReader } from "../../../src/trainer/frames.ts";
import { writeAll } from "../../../src/internal/write_all.ts";

const SLOTS = 2;
const SLOT_BYTES = 8;

/** A connection with a ring in this process's own memory, and the trainer's end of its socket. */
async function connected() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const dialling = Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  const ours = await listener.accept();
  const theirs = await dialling;
  listener.close();
  const memory = new Uint8Array(SLOTS * SLOT_BYTES);
  const pushed = Promise.withResolvers<void>();
  let isClosed = false;
  const connection = new TrainerConnection(ours, new FrameReader(ours, "the trainer"), {
    trainer: { name: "raw", ways: ["shm"] },
    way: "shm",
    why: "",
    ring: {
      slots: SLOTS,
      slotBytes: SLOT_BYTES,
      read(slot, offset, target) {
        const at = slot * SLOT_BYTES + offset;
        target.set(memory.subarray(at, at + target.length));
        return Promise.resolve();
      },
      close() {
        isClosed = true;
        return Promise.resolve();
      },
    },
    clock: new FakeClock(),
    logger: silentLogger,
    events: { push: () => pushed.resolve(), take() {} },
  });
  const running = connection.run();
  const reader = new FrameReader(theirs, "the link");
  return {
    connection,
    memory,
    reader,
    pushed: pushed.promise,
    raw: (bytes: Uint8Array) => writeAll(theirs, bytes),
    say: (message: object) => writeAll(theirs, encodeMessage(message)),
    offer(...sizes: number[]) {
      const tensors = sizes.map((size, i) => [`t${i}`, "uint8", [size]]);
      return this.say({ type: "push", push: 1, version: null, kind: "weights", tensors });
    },
    async slot(slot: number, bytes: number, push = 1): Promise<void> {
      const frame = new Uint8Array(24);
      frame.set(encodeHead({ kind: FrameKind.slot, push, length: 8 }));
      const view = new DataView(frame.buffer);
      view.setUint32(16, slot, true);
      view.setUint32(20, bytes, true);
      await writeAll(theirs, frame);
    },
    /** The next slot that may be filled again. */
    async free(): Promise<number> {
      for (;;) {
        const { kind, length } = await reader.head();
        const payload = new Uint8Array(length);
        await reader.fill(payload);
        if (kind === FrameKind.free) return new DataView(payload.buffer).getUint32(0, true);
      }
    },
    async [Symbol.asyncDispose]() {
      connection.close(new Error("the test is over"));
      theirs.close();
      await running;
      assert.ok(isClosed, "the memory is given back");
    },
  };
}

Deno.test("tensors of any sizes come whole through slots, which may end within one or hold several", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 3 * SLOT_BYTES }), { minLength: 1, maxLength: 5 }),
      async (sizes) => {
        await using link = await connected();
        await link.offer(...sizes);
        await link.pushed;
        const signal = new AbortController().signal;
        const targets = sizes.map((size) => new Uint8Array(size));
        const reads = targets.map((target, i) => link.connection.fetch(1, i, target, signal));
        const total = sizes.reduce((sum, size) => sum + size, 0);
        const sent = Uint8Array.from({ length: total }, (_, i) => i + 1);
        for (let at = 0, turn = 0; at < total; at += SLOT_BYTES, turn++) {
          const slot = turn % SLOTS;
          if (turn >= SLOTS) assert.equal(await link.free(), slot);
          const part = sent.subarray(at, at + SLOT_BYTES);
          link.memory.set(part, slot * SLOT_BYTES);
          await link.slot(slot, part.length);
        }
        await Promise.all(reads);
        assert.deepEqual([...targets.flatMap((target) => [...target])], [...sent]);
      },
    ),
    { numRuns: 25 },
  );
});

for (
  const [what, slots] of [
    ["a slot that there is not", [[SLOTS, 1]]],
    ["more than a slot holds", [[0, SLOT_BYTES + 1]]],
    ["an empty slot", [[0, 0]]],
    ["bytes of a push that never began", [[0, 1, 7]]],
    ["more bytes than were asked for", [[0, 5], [1, 1]]],
  ] as const
) {
  Deno.test(`${what} ends the connection, and the read hears why`, async () => {
    await using link = await connected();
    await link.offer(4);
    await link.pushed;
    const read = link.connection.fetch(1, 0, new Uint8Array(4), new AbortController().signal);
    read.catch(() => {});
    for (const [slot, bytes, push] of slots) await link.slot(slot, bytes, push);
    await new Promise((resolve) => link.connection.ended.addEventListener("abort", resolve));
    assert.match(String(link.connection.ended.reason), /trainer raw sent/);
  });
}

Deno.test("bytes over the socket are refused where shared memory was chosen", async () => {
  await using link = await connected();
  await link.offer(4);
  await link.pushed;
  const read = link.connection.fetch(1, 0, new Uint8Array(4), new AbortController().signal);
  const failed = assert.rejects(read, /sent bytes although it chose shm/);
  const frame = new Uint8Array(20);
  frame.set(encodeHead({ kind: FrameKind.bytes, push: 1, length: 4 }));
  await link.raw(frame);
  await failed;
});
