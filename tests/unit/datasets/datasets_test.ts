import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import {
  type Dataset,
  datasetOf,
  type DatasetOptions,
  type DatasetRow,
  huggingFaceDataset,
  jsonLinesDataset,
  parquetDataset,
} from "../../../src/datasets/mod.ts";
import { matches } from "../../../src/datasets/hugging_face.ts";
import { LimitError, SGLangError, StateError, ValidationError } from "../../../src/errors.ts";

const fixture = (name: string) =>
  fileURLToPath(new URL(`./fixtures/${name}.parquet`, import.meta.url));

function taken<Row>(dataset: Dataset<Row>): Promise<Row[]> {
  return Array.fromAsync(dataset);
}

const numbers = (length: number) => Array.from({ length }, (_, i) => i);

Deno.test("every epoch has each row once, in another order, the same for the same seed", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 300 }),
      fc.integer(),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 4 }),
      async (length, seed, epochs, shards) => {
        const dataset = (await datasetOf(numbers(length))).shuffle(seed).repeat(epochs);
        const all = await taken(dataset);
        assert.deepEqual(
          all,
          await taken((await datasetOf(numbers(length))).shuffle(seed).repeat(epochs)),
        );
        for (let epoch = 0; epoch < epochs; epoch++) {
          const part = all.slice(epoch * length, (epoch + 1) * length);
          assert.deepEqual(part.toSorted((a, b) => a - b), numbers(length));
        }
        const once = dataset.repeat(1);
        const parts = await Promise.all(
          numbers(shards).map((index) => taken(once.shard({ index, count: shards }))),
        );
        assert.deepEqual(parts.flat().toSorted((a, b) => a - b), numbers(length));
      },
    ),
    { numRuns: 60 },
  );
  const shuffled = (await datasetOf(numbers(1000))).shuffle(1).repeat(2);
  const all = await taken(shuffled);
  assert.notDeepEqual(all.slice(0, 1000), all.slice(1000));
  // Where a row comes has to do neither with where it was, nor with the row beside it.
  const moved = all.slice(0, 1000).reduce((sum, row, i) => sum + Math.abs(row - i), 0) / 1000;
  assert.ok(moved > 280 && moved < 390, `${moved}`);
  const first = await Promise.all(
    numbers(4000).map(async (seed) => await (await datasetOf(numbers(4))).shuffle(seed).task(0)),
  );
  for (const row of numbers(4)) {
    const count = first.filter((value) => value === row).length;
    assert.ok(count > 850 && count < 1150, `row ${row} came first ${count} times`);
  }
});

Deno.test("an iteration goes on where its state stands, and not on other rows", async () => {
  const dataset = (await datasetOf(numbers(10))).shuffle(3).repeat(2);
  const cursor = dataset.from();
  const before: number[] = [];
  for await (const row of cursor) {
    before.push(row);
    if (before.length === 7) break;
  }
  const state = JSON.parse(JSON.stringify(cursor.state()));
  const after = await Array.fromAsync(dataset.from(state));
  assert.deepEqual([...before, ...after], await taken(dataset));
  const other = await datasetOf(numbers(11));
  assert.throws(() => other.from(state), ValidationError);
  await assert.rejects(dataset.task(20), StateError);
  assert.deepEqual(
    await Promise.all(dataset.split(4).map(async (part) => (await taken(part.repeat(1))).length)),
    [4, 6],
  );
});

Deno.test("a source without end stops at maxRows", async () => {
  async function* endless() {
    for (;;) yield await Promise.resolve(1);
  }
  await assert.rejects(datasetOf(endless(), { maxRows: 100 }), LimitError);
});

Deno.test("options that are none, and limits that are no numbers, are refused by name", async () => {
  const refused: [object, RegExp][] = [
    [{ maxrows: 1 }, /Unknown option "maxrows" of a dataset; did you mean "maxRows"/],
    [{ spilt: "test" }, /Unknown option "spilt"/],
    [{ maxRows: NaN }, /maxRows must be a whole number above 0, not NaN/],
    [{ maxLineBytes: 0 }, /maxLineBytes/],
    [{ maxMemoryBytes: 0.5 }, /maxMemoryBytes/],
  ];
  const opened = [
    (options: object) => jsonLinesDataset("none.jsonl", options),
    (options: object) => parquetDataset("none.parquet", options),
    (options: object) => huggingFaceDataset(".", options),
    (options: object) => datasetOf([1], options),
  ];
  for (const open of opened) {
    for (const [options, message] of refused) {
      await assert.rejects(open(options), { name: "ValidationError", message });
    }
  }
});

Deno.test("Parquet that pyarrow wrote is read in each compression, and damage is refused", async () => {
  const [snappy, ...others] = await Promise.all(
    ["snappy", "zstd", "gzip"].map((name) => readAll(fixture(name))),
  );
  assert.equal(snappy!.length, 20);
  assert.deepEqual(snappy![7], {
    id: 7,
    question: "What is 7 + 7?",
    answer: "14",
    tags: ["a"],
    meta: { level: 2 },
    score: 1.75,
  });
  assert.equal(snappy![8]!.score, null);
  for (const other of others) assert.deepEqual(other, snappy);
  await assert.rejects(parquetDataset(fixture("zstd"), { maxRows: 19 }), LimitError);
  await assert.rejects(readAll(fixture("zstd"), { maxMemoryBytes: 99 }), LimitError);
  const whole = await Deno.readFile(fixture("zstd"));
  const path = await Deno.makeTempFile();
  try {
    for (let at = 3; at < whole.length; at += 41) {
      const bytes = whole.slice();
      bytes[at]! ^= 0xff;
      await Deno.writeFile(path, bytes);
      await readAll(path).catch((error) => {
        if (!(error instanceof SGLangError)) throw error;
      });
    }
    await Deno.writeFile(path, whole.slice(0, 200));
    await assert.rejects(parquetDataset(path), /is no Parquet that can be read/);
  } finally {
    await Deno.remove(path);
  }
});

async function readAll(path: string, options: DatasetOptions = {}): Promise<DatasetRow[]> {
  await using dataset = await parquetDataset(path, options);
  return await taken(dataset);
}

Deno.test("in whatever order rows of a Parquet file are taken, with however little memory, they are the same", async () => {
  const all = await readAll(fixture("groups"));
  assert.deepEqual(all.map(({ id }) => id), numbers(23));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.nat(22), { maxLength: 60 }),
      // A row group has some 450 bytes before compression.
      fc.constantFrom(500, 1000, 10_000),
      fc.boolean(),
      async (order, maxMemoryBytes, atOnce) => {
        await using dataset = await parquetDataset(fixture("groups"), { maxMemoryBytes });
        const rows = [];
        if (atOnce) rows.push(...await Promise.all(order.map((index) => dataset.task(index))));
        else for (const index of order) rows.push(await dataset.task(index));
        assert.deepEqual(rows, order.map((index) => all[index]));
      },
    ),
    { numRuns: 60 },
  );
  await using small = await parquetDataset(fixture("groups"), { maxMemoryBytes: 400 });
  await assert.rejects(small.task(0), /row group 0 is larger than maxMemoryBytes, 400: write the/);
});

Deno.test("a folder of the Hugging Face Hub is read by its README, else by the names of its files", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(join(folder, "data"));
    await Deno.mkdir(join(folder, "extra"));
    for (const i of [0, 1]) {
      await Deno.copyFile(fixture("zstd"), join(folder, `data/train-0000${i}-of-00002.parquet`));
    }
    await Deno.writeTextFile(join(folder, "data/dev.jsonl"), '{"a": 1}\n{"a": 2}\n');
    await Deno.writeTextFile(join(folder, "extra/hard.jsonl"), '{"a": 3}\n');
    {
      await using train = await huggingFaceDataset(folder);
      assert.equal(train.length, 40);
      assert.equal((await train.task(27)).id, 7);
      await using held = await huggingFaceDataset(folder, { split: "validation" });
      assert.deepEqual(await taken(held), [{ a: 1 }, { a: 2 }]);
    }
    await assert.rejects(
      huggingFaceDataset(folder, { split: "test" }),
      /no files of the split "test"; it has: data\/dev/,
    );
    await Deno.writeTextFile(
      join(folder, "README.md"),
      "---\nconfigs:\n- config_name: hard\n  data_files:\n  - split: train\n    path: extra/*.jsonl\n---\n# Data\n",
    );
    await using hard = await huggingFaceDataset(folder);
    assert.deepEqual(await taken(hard), [{ a: 3 }]);
    await assert.rejects(
      huggingFaceDataset(folder, { config: "easy" }),
      /no configuration "easy"; it has: hard/,
    );
    await assert.rejects(jsonLinesDataset(join(folder, "none.jsonl")), /does not exist/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("globs fit as the Hub has them, in linear time", () => {
  const cases: [string, string, boolean][] = [
    ["data/train-0.parquet", "data/train-*", true],
    ["data/a/train-0.parquet", "data/train-*", false],
    ["data/a/b/x.jsonl", "**/x.jsonl", true],
    ["x.jsonl", "**/x.jsonl", true],
    ["x.jsonl", "./?.jsonl", true],
    ["data/x.json", "data/**", true],
    ["xajson", "x.json", false],
  ];
  for (const [file, glob, fits] of cases) {
    assert.equal(matches(file, glob), fits, `${file} ${glob}`);
  }
  assert.equal(matches("a/".repeat(2000), "**/*".repeat(100) + "z"), false);
});
