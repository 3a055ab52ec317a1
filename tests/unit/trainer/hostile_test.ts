/** Bytes that no trainer sends end that connection and nothing else. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import { encodeHead, encodeMessage } from "../../../src/trainer/frames.ts";
import { until } from "../../_support/clock.ts";
import { randomTensors, RawTrainer, readWhole } from "../../_support/raw_trainer.ts";

const AT = "tcp:127.0.0.1:0";
const tensor = ["w", "float32", [2, 2]];
const push = { type: "push", push: 1, version: null, kind: "weights", tensors: [tensor] };

/** Runs something bad on one connection while a push of another trainer is under way. */
async function besideAnother(bad: (trainer: RawTrainer, link: TrainerLink) => Promise<void>) {
  await using link = await TrainerLink.listen(AT, { maxTrainers: 100 });
  using good = await RawTrainer.greeted(link.address, { name: "good" });
  const tensors = randomTensors([10_000, 5000]);
  const told = good.push(1, tensors);
  const taken = await link.nextPush();
  using trainer = await RawTrainer.greeted(link.address, { name: "bad" });
  await bad(trainer, link);
  assert.ok(await trainer.isClosed());
  await until(() => link.trainers.length === 1);
  assert.deepEqual((await readWhole(taken.source)).get("t0"), tensors[0]!.data);
  await taken.done({ version: "1" });
  assert.equal((await told).type, "done");
}

const messages: Record<string, object> = {
  "an unknown type": { type: "sudo" },
  "no type": {},
  "a push without a number": { ...push, push: "1" },
  "a push whose number is too large": { ...push, push: 2 ** 32 },
  "a push without tensors": { ...push, tensors: [] },
  "a push of something else": { ...push, kind: "optimizer" },
  "a version that is no text": { ...push, version: 7 },
  "a long version": { ...push, version: "x".repeat(501) },
  "a tensor twice": { ...push, tensors: [tensor, tensor] },
  "a tensor of a type nobody knows": { ...push, tensors: [["w", "float4", [1]]] },
  "a tensor with a name of an object": { ...push, tensors: [["w", "toString", [1]]] },
  "a tensor larger than can be": { ...push, tensors: [["w", "int8", [2 ** 40, 2 ** 40]]] },
  "a tensor with a negative size": { ...push, tensors: [["w", "int8", [-1]]] },
  "a tensor with 65 dimensions": { ...push, tensors: [["w", "int8", Array(65).fill(1)]] },
  "an answer to no question": { type: "answer", ask: 1 },
  "an answer without a number": { type: "answer" },
  "a message that is nested too deep": {
    ...push,
    tensors: JSON.parse("[".repeat(5000) + "]".repeat(5000)),
  },
  "an adapter without a name": { ...push, kind: "adapter" },
};

for (const [what, message] of Object.entries(messages)) {
  Deno.test(`${what} ends that connection and no other`, async () => {
    await besideAnother((trainer) => trainer.say(message));
  });
}

Deno.test("frames that may not come then end that connection and no other", async () => {
  const frames: Record<string, Uint8Array> = {
    "bytes of no push": encodeHead({ kind: 2, push: 0, length: 1 }),
    "bytes of a push to come": encodeHead({ kind: 2, push: 9, length: 1 }),
    "a frame of bytes that is too long": encodeHead({ kind: 2, push: 1, length: 17 * 2 ** 20 }),
    "a slot without a ring": Uint8Array.of(
      ...encodeHead({ kind: 3, push: 1, length: 8 }),
      ...Array(8),
    ),
    "a slot of nine bytes": encodeHead({ kind: 3, push: 1, length: 9 }),
    "an unknown kind": encodeHead({ kind: 77, push: 0, length: 0 }),
    "a message that is no JSON": Uint8Array.of(
      ...encodeHead({ kind: 1, push: 0, length: 1 }),
      0x7b,
    ),
    "a message that is no UTF-8": Uint8Array.of(
      ...encodeHead({ kind: 1, push: 0, length: 2 }),
      0xff,
      0xfe,
    ),
    "a message that is a list": Uint8Array.of(
      ...encodeHead({ kind: 1, push: 0, length: 2 }),
      0x5b,
      0x5d,
    ),
    "a message too long": encodeHead({ kind: 1, push: 0, length: 2 ** 26 }),
    "a second push within one": encodeMessage(push),
  };
  for (const bytes of Object.values(frames)) {
    await besideAnother(async (trainer, link) => {
      await trainer.say(push);
      await link.nextPush();
      await trainer.write(bytes);
    });
  }
});

Deno.test("more bytes than were asked for end the connection, and what reads hears of it", async () => {
  await besideAnother(async (trainer, link) => {
    await trainer.offer(1, randomTensors([10]));
    const taken = await link.nextPush();
    const read = readWhole(taken.source);
    await trainer.await("want");
    await trainer.bytes(1, new Uint8Array(11));
    await read.catch(() => {});
  });
});

Deno.test("any bytes end the connection or wait for more, and a good push works beside them", async () => {
  await using link = await TrainerLink.listen(AT, { maxTrainers: 1000 });
  let number = 0;
  using good = await RawTrainer.greeted(link.address, { name: "good" });
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 64 }),
          fc.record({ kind: fc.nat(6), push: fc.nat(3), length: fc.nat(40) }).map(encodeHead),
          fc.dictionary(fc.constantFrom("type", "push", "tensors", "batch"), fc.anything())
            .map((value) => encodeMessage(JSON.parse(JSON.stringify(value) ?? "{}"))),
        ),
        { maxLength: 6 },
      ),
      async (pieces) => {
        using bad = await RawTrainer.greeted(link.address, { name: "bad" });
        for (const piece of pieces) await bad.write(piece).catch(() => {});
        const tensors = randomTensors([2000]);
        const told = good.push(++number, tensors);
        for (;;) {
          const taken = await link.nextPush();
          if (taken.trainer !== "good") continue;
          assert.deepEqual((await readWhole(taken.source)).get("t0"), tensors[0]!.data);
          await taken.done({ version: "1" });
          break;
        }
        assert.equal((await told).type, "done");
      },
    ),
    { numRuns: 40 },
  );
});
