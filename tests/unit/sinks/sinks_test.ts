import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import fc from "fast-check";
import { StateError, ValidationError } from "../../../src/errors.ts";
import { joinSinks, jsonLinesSink, tensorBoardSink } from "../../../src/sinks/mod.ts";
import { crc32c } from "../../../src/sinks/tensor_board.ts";

Deno.test("the checksum is CRC-32C", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  assert.equal(crc32c(bytes("123456789")), 0xe3069283);
  // RFC 3720, B.4.
  assert.equal(crc32c(new Uint8Array(32)), 0x8a9136aa);
  assert.equal(crc32c(new Uint8Array(32).fill(0xff)), 0x62a8ab43);
});

Deno.test("an event file has the bytes that TensorFlow's writer makes of the same events", async () => {
  const folder = await Deno.makeTempDir();
  try {
    {
      await using sink = await tensorBoardSink(folder, { now: () => 1_700_000_000_500 });
      await sink.log(3, { reward: 0.5 });
    }
    const [{ name }] = [...Deno.readDirSync(folder)] as [Deno.DirEntry];
    assert.match(name, /^events\.out\.tfevents\.1700000000\./);
    // Written by tensorboard 2.21, RecordWriter, with the same times.
    const wanted =
      "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b3531101c00000000000000c8c1951d0900002040fc54d94110032a0f0a0d0a06726577617264150000003f6a135621";
    assert.equal(Buffer.from(await Deno.readFile(join(folder, name))).toString("hex"), wanted);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("lines go on with a file, and several sinks hear the same", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "run.jsonl");
    for (const step of [1, 2]) {
      const now = () => 1_000 * step;
      await using sink = joinSinks(
        await jsonLinesSink(path, { now }),
        await tensorBoardSink(folder),
      );
      await Promise.all([sink.log(step, { reward: step / 2, loss: NaN }), sink.log(-step, {})]);
      await assert.rejects(sink.log(0.5, {}), ValidationError);
    }
    const lines = (await Deno.readTextFile(path)).trim().split("\n").map((line) =>
      JSON.parse(line)
    );
    assert.deepEqual(lines, [
      { reward: 0.5, loss: null, step: 1, time: 1 },
      { step: -1, time: 1 },
      { reward: 1, loss: null, step: 2, time: 2 },
      { step: -2, time: 2 },
    ]);
    assert.equal([...Deno.readDirSync(folder)].length, 3);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a sink may be disposed of twice, and says so to who logs after it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (
      const sink of [await tensorBoardSink(folder), await jsonLinesSink(join(folder, "run.jsonl"))]
    ) {
      await sink[Symbol.asyncDispose]();
      await sink[Symbol.asyncDispose]();
      await assert.rejects(sink.log(1, { reward: 1 }), StateError);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("lines of steps that are taken again are taken out, whatever else the file has", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "run.jsonl");
    const line = (step: number) => JSON.stringify({ step });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: -5, max: 20 }), { maxLength: 30 }),
        fc.integer({ min: -5, max: 20 }),
        fc.constantFrom("", '{"step": 1', "{"),
        async (steps, purgeStep, unfinished) => {
          const own = ["# my own words", '{"loss":1}', "null", ...steps.map(line)];
          await Deno.writeTextFile(path, own.map((text) => text + "\n").join("") + unfinished);
          {
            await using sink = await jsonLinesSink(path, { purgeStep, now: () => 1_000 });
            await sink.log(purgeStep, {});
          }
          const wanted = own.filter((_, i) => i < 3 || steps[i - 3]! < purgeStep);
          assert.deepEqual((await Deno.readTextFile(path)).trim().split("\n"), [
            ...wanted,
            JSON.stringify({ step: purgeStep, time: 1 }),
          ]);
        },
      ),
      { numRuns: 50 },
    );
    await Deno.remove(path);
    await using fresh = await jsonLinesSink(path, { purgeStep: 1 });
    await fresh.log(1, {});
    assert.deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name), ["run.jsonl"]);
    await assert.rejects(jsonLinesSink(path, { purgeStep: 0.5 }), ValidationError);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
