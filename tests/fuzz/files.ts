/** What is read of files that somebody else wrote, beside checkpoints and tokenizers. */
import fc from "fast-check";
import type { DatasetOptions } from "../../src/datasets/mod.ts";
import { jsonLinesStore } from "../../src/datasets/json_lines.ts";
import { parquetStore } from "../../src/datasets/parquet.ts";
import { jsonLinesSink } from "../../src/sinks/mod.ts";
import { mutatedBytes, mutatedJsonText } from "./mutate.ts";

const limits: DatasetOptions = { maxRows: 1000, maxLineBytes: 10_000, maxMemoryBytes: 2 ** 24 };
const fixtures = new URL("../unit/datasets/fixtures/", import.meta.url);

/** Lines of others, some of them not JSON. */
export const manyLines: fc.Arbitrary<Uint8Array<ArrayBuffer>> = fc.array(
  fc.oneof(
    mutatedJsonText({ prompt: "a", answer: 1, __proto__: null }),
    fc.constantFrom("", "\r", "\ufeff", "\0".repeat(50), "[".repeat(20_000), '{"a": 1e999}'),
  ),
  { maxLength: 8 },
).map((lines) => new TextEncoder().encode(lines.join("\n")));

/** A Parquet file with some of its bytes changed, packed in each way. */
export function parquetFiles(): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const files = ["groups", "gzip", "snappy", "zstd"].map((name) =>
    Deno.readFileSync(new URL(`${name}.parquet`, fixtures))
  );
  return fc.constantFrom(...files).chain((file) => mutatedBytes(file));
}

/** Opens a dataset of bytes and takes some rows of it. */
export async function readDataset(
  kind: "jsonLines" | "parquet",
  bytes: Uint8Array<ArrayBuffer>,
): Promise<void> {
  const open = kind === "parquet" ? parquetStore : jsonLinesStore;
  // Bytes are opened as files are; only the public functions want a path.
  const store = await open(bytes as unknown as string, limits);
  try {
    for (let index = 0; index < Math.min(store.length, 20); index++) await store.at(index);
  } finally {
    store.close?.();
  }
}

/** Goes on with a file of lines from step 5 on; nothing of an earlier step may be lost. */
export async function goOnWithLines(bytes: Uint8Array): Promise<void> {
  const path = await Deno.makeTempFile();
  try {
    await Deno.writeFile(path, bytes);
    await using sink = await jsonLinesSink(path, { purgeStep: 5 });
    await sink.log(5, { __proto__: 1, loss: NaN, "a\n\u2028b": 1e308 });
    const last = (await Deno.readTextFile(path)).trimEnd().split("\n").at(-1)!;
    if (JSON.parse(last).step !== 5) throw new Error(`the last line is ${last}`);
  } finally {
    await Deno.remove(path);
  }
}
