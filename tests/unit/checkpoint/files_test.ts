import assert from "node:assert/strict";
import { join } from "node:path";
import { AbortedError, CheckpointError, StateError, ValidationError } from "../../../src/errors.ts";
import {
  openCheckpoint,
  type TensorToWrite,
  writeSafetensors,
} from "../../../src/checkpoint/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const bytes = (...values: number[]) => Uint8Array.from(values);
const u8 = (name: string, ...values: number[]): TensorToWrite => ({
  name,
  dtype: "uint8",
  shape: [values.length],
  data: bytes(...values),
});

async function writeShards(folder: string, weightMap: Record<string, string>): Promise<void> {
  await writeSafetensors(join(folder, "s1.safetensors"), [u8("a", 1), u8("b", 2)]);
  await writeSafetensors(join(folder, "s2.safetensors"), [u8("c", 3)]);
  const index = JSON.stringify({ metadata: { total_size: 3 }, weight_map: weightMap });
  await Deno.writeTextFile(join(folder, "model.safetensors.index.json"), index);
}

const shards = { a: "s1.safetensors", b: "s1.safetensors", c: "s2.safetensors" };

Deno.test("what is written is read back, with its metadata", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [
    { name: "w", dtype: "float32", shape: [2, 2], data: Float32Array.of(1, -2, 3, Infinity) },
    { name: "empty", dtype: "int64", shape: [0, 3], data: new BigInt64Array(0) },
    { name: "scalar", dtype: "bfloat16", shape: [], data: Uint16Array.of(0x3f80) },
  ], { metadata: { step: "7" } });
  await using checkpoint = await openCheckpoint(path);
  assert.deepEqual(checkpoint.metadata, { step: "7" });
  assert.equal(checkpoint.byteLength, 18);
  assert.deepEqual([...checkpoint.tensors.keys()], ["empty", "w", "scalar"]);
  assert.deepEqual(
    new Float32Array((await checkpoint.read("w")).buffer),
    Float32Array.of(1, -2, 3, Infinity),
  );
  assert.deepEqual(await checkpoint.read("scalar"), bytes(0x80, 0x3f));
  assert.equal((await checkpoint.read("empty")).length, 0);
});

Deno.test("a tensor is read piece by piece into the caller's memory", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [u8("a", 1, 2, 3, 4, 5)]);
  await using checkpoint = await openCheckpoint(path);
  const ring = new Uint8Array(4);
  await checkpoint.readInto("a", ring.subarray(1, 3), { byteOffset: 2 });
  assert.deepEqual(ring, bytes(0, 3, 4, 0));
  await assert.rejects(checkpoint.readInto("a", ring, { byteOffset: 2 }), ValidationError);
  await assert.rejects(checkpoint.readInto("a", ring, { byteOffset: -1 }), ValidationError);
});

Deno.test("many reads at once each get their own bytes", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  const names = Array.from({ length: 60 }, (_, i) => `t${i}`);
  await writeSafetensors(path, names.map((name, i) => u8(name, i, i + 1, i + 2)));
  await using checkpoint = await openCheckpoint(path);
  const read = await Promise.all(names.map((name) => checkpoint.read(name)));
  assert.deepEqual(read, names.map((_, i) => bytes(i, i + 1, i + 2)));
});

Deno.test("a sharded checkpoint is opened by its folder and by its index", async () => {
  await using folder = await temporaryFolder();
  await writeShards(folder.path, shards);
  for (const path of [folder.path, join(folder.path, "model.safetensors.index.json")]) {
    await using checkpoint = await openCheckpoint(path);
    assert.deepEqual([...checkpoint.tensors.keys()], ["a", "b", "c"]);
    assert.deepEqual(await checkpoint.read("c"), bytes(3));
  }
});

Deno.test("a folder with one file, or several without an index, is opened", async () => {
  await using folder = await temporaryFolder();
  await writeSafetensors(join(folder.path, "one.safetensors"), [u8("a", 1)]);
  await writeSafetensors(join(folder.path, "two.safetensors"), [u8("b", 2)]);
  {
    await using checkpoint = await openCheckpoint(folder.path);
    assert.deepEqual([...checkpoint.tensors.keys()], ["a", "b"]);
  }
  await writeSafetensors(join(folder.path, "model.safetensors"), [u8("m", 3)]);
  await using checkpoint = await openCheckpoint(folder.path);
  assert.deepEqual([...checkpoint.tensors.keys()], ["m"]);
});

Deno.test("a tensor in two files is refused unless the index decides", async () => {
  await using folder = await temporaryFolder();
  await writeSafetensors(join(folder.path, "s1.safetensors"), [u8("a", 1), u8("b", 2)]);
  await writeSafetensors(join(folder.path, "s2.safetensors"), [u8("b", 3)]);
  await assert.rejects(openCheckpoint(folder.path), /"b" is in .*s1.* and in .*s2/);
  await Deno.writeTextFile(
    join(folder.path, "model.safetensors.index.json"),
    JSON.stringify({ weight_map: { a: "s1.safetensors", b: "s2.safetensors" } }),
  );
  await using checkpoint = await openCheckpoint(folder.path);
  assert.deepEqual(await checkpoint.read("b"), bytes(3));
});

const brokenIndexes: ReadonlyArray<[string, Record<string, unknown>, RegExp]> = [
  ["names a tensor that its file lacks", { ...shards, d: "s2.safetensors" }, /"d" is in .*s2/],
  ["names a file that is not there", { ...shards, d: "s3.safetensors" }, /s3.* does not exist/],
  ["leads out of its folder", { ...shards, d: "../s2.safetensors" }, /"d" lies in "\.\./],
  ["names an absolute path", { ...shards, d: "/etc/passwd" }, /"\/etc\/passwd"/],
  ["is empty", {}, /no weight_map/],
  ["holds no names", { a: 1 }, /"a" lies in 1/],
];

for (const [what, weightMap, message] of brokenIndexes) {
  Deno.test(`an index that ${what} is refused`, async () => {
    await using folder = await temporaryFolder();
    await writeShards(folder.path, weightMap as Record<string, string>);
    await assert.rejects(
      openCheckpoint(folder.path),
      (error) => error instanceof CheckpointError && message.test(error.message),
    );
  });
}

Deno.test("what is no checkpoint is refused with its name and a way out", async () => {
  await using folder = await temporaryFolder();
  await assert.rejects(openCheckpoint(join(folder.path, "no")), /no does not exist/);
  await assert.rejects(openCheckpoint(folder.path), /no \*\.safetensors file/);
  await Deno.writeTextFile(join(folder.path, "pytorch_model.bin"), "x");
  await assert.rejects(openCheckpoint(folder.path), /only pytorch_model\.bin: convert/);
  const short = join(folder.path, "short.safetensors");
  await Deno.writeTextFile(short, "1234");
  await assert.rejects(openCheckpoint(short), /short\.safetensors: 4 bytes are too few/);
  await Deno.writeFile(short, new Uint8Array(BigUint64Array.of(2n ** 62n, 0n).buffer));
  await assert.rejects(openCheckpoint(short), /short\.safetensors: header of 4611686018427387904/);
});

Deno.test("a file that was replaced or cut after it was opened is refused", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [u8("a", 1), u8("b", 2)]);
  await using cut = await openCheckpoint(path);
  await Deno.truncate(path, cut.tensors.get("b")!.byteOffset);
  await assert.rejects(cut.read("b"), /changed while it was being read/);
  await writeSafetensors(path, [u8("a", 1)]);
  await using first = await openCheckpoint(path);
  await writeSafetensors(path, [u8("a", 9)]);
  // Two reads at once need a second handle, which sees the new file.
  const reads = await Promise.allSettled([first.read("a"), first.read("a")]);
  assert.deepEqual(reads.map((read) => read.status), ["fulfilled", "rejected"]);
});

Deno.test("an unknown tensor is refused with the nearest name", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [u8("lm_head.weight", 1)]);
  await using checkpoint = await openCheckpoint(path);
  await assert.rejects(checkpoint.read("lm_head.wieght"), /did you mean "lm_head\.weight"/);
});

Deno.test("a closed checkpoint says so, and an abort is met", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [u8("a", 1)]);
  const checkpoint = await openCheckpoint(path);
  await assert.rejects(checkpoint.read("a", { signal: AbortSignal.abort() }), AbortedError);
  await checkpoint[Symbol.asyncDispose]();
  await assert.rejects(checkpoint.read("a"), StateError);
});

Deno.test("a write that fails leaves the old file and nothing else", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [u8("a", 1)]);
  const streamed = (pieces: Uint8Array[]): TensorToWrite => ({
    name: "a",
    dtype: "uint8",
    shape: [2],
    data: () => pieces,
  });
  await assert.rejects(writeSafetensors(path, [streamed([bytes(1)])]), /takes 2 bytes.*has 1/);
  await assert.rejects(writeSafetensors(path, [streamed([bytes(1, 2, 3)])]), /has more than 2/);
  const failing: TensorToWrite = {
    ...streamed([]),
    async *data() {
      yield await Promise.resolve(bytes(1));
      throw new Error("source broke");
    },
  };
  await assert.rejects(writeSafetensors(path, [failing]), /source broke/);
  await assert.rejects(
    writeSafetensors(path, [streamed([bytes(1, 2)])], { signal: AbortSignal.abort() }),
    AbortedError,
  );
  await using checkpoint = await openCheckpoint(path);
  assert.deepEqual(await checkpoint.read("a"), bytes(1));
  assert.deepEqual((await Array.fromAsync(Deno.readDir(folder.path))).map((file) => file.name), [
    "x.safetensors",
  ]);
});

Deno.test("streamed data is written in its order", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  await writeSafetensors(path, [{
    name: "a",
    dtype: "int16",
    shape: [3],
    async *data() {
      yield await Promise.resolve(bytes(1, 0, 2));
      yield bytes(0, 3, 0);
    },
  }]);
  await using checkpoint = await openCheckpoint(path);
  assert.deepEqual(await checkpoint.read("a"), bytes(1, 0, 2, 0, 3, 0));
});

Deno.test("tensors that cannot be written are refused before anything is", async () => {
  const refused: ReadonlyArray<[TensorToWrite[], RegExp]> = [
    [[u8("a", 1), u8("a", 2)], /"a" is given twice/],
    [[u8("__metadata__", 1)], /cannot be called/],
    [[{ ...u8("a", 1), shape: [2] }], /takes 2 bytes, but its data has 1/],
    [[{ ...u8("a", 1), dtype: "float7" as "float32" }], /unknown element type "float7"/],
  ];
  for (const [tensors, message] of refused) {
    await assert.rejects(
      writeSafetensors("/nowhere/x.safetensors", tensors),
      (error) => error instanceof ValidationError && message.test(error.message),
    );
  }
});

Deno.test({
  name: "without read permission the flag is named",
  permissions: { read: false },
  async fn() {
    await assert.rejects(
      openCheckpoint("/models/x"),
      (error: Error & { flag?: string }) => error.flag === "--allow-read=/models/x",
    );
  },
});

for (const missing of ["read", "write"] as const) {
  Deno.test({
    name: `writing without ${missing} permission names the flag for the folder`,
    permissions: { read: true, write: true, [missing]: false },
    async fn() {
      // Permissions are dropped for this test only, so the folder is one that is there already.
      const folder = "/tmp";
      await assert.rejects(
        writeSafetensors(`${folder}/never-written.safetensors`, [u8("a", 1)]),
        (error: Error & { flag?: string }) => error.flag === `--allow-${missing}=${folder}`,
      );
    },
  });
}

Deno.test("a large tensor is read in pieces at once, each to its place", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "x.safetensors");
  const words = new Uint32Array(9 * 2 ** 20 + 1).map((_, i) => i);
  await writeSafetensors(path, [
    u8("first", 1, 2, 3, 4),
    { name: "large", dtype: "int32", shape: [words.length], data: new Int32Array(words.buffer) },
  ]);
  await using checkpoint = await openCheckpoint(path);
  const read = new Uint32Array((await checkpoint.read("large")).buffer);
  assert.ok(read.every((word, i) => word === i));
  const tail = new Uint8Array(words.byteLength - 20);
  await checkpoint.readInto("large", tail, { byteOffset: 20 });
  assert.ok(new Uint32Array(tail.buffer).every((word, i) => word === i + 5));
});
