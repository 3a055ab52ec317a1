/** Everything public that reads a path, and everything that writes one. */
import { readAdapter } from "../../src/adapters/adapter.ts";
import { openCheckpoint, writeSafetensors } from "../../src/checkpoint/mod.ts";
import {
  ReplayBuffer,
  RolloutBatch,
  writeJsonLines,
  writeRollout,
} from "../../src/collector/mod.ts";
import { huggingFaceDataset, jsonLinesDataset, parquetDataset } from "../../src/datasets/mod.ts";
import { DeltaStore, publishDelta } from "../../src/delta/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../src/embedded/mod.ts";
import { LocalTokenizer } from "../../src/policy/local_tokenizer.ts";
import { readRollout } from "../../src/rollout_file/mod.ts";
import { jsonLinesSink, tensorBoardSink } from "../../src/sinks/mod.ts";
import { safetensors } from "../../src/weights/source/mod.ts";
import { rowOf } from "./rollout_rows.ts";
import { temporaryFolder } from "./temporary_folder.ts";

/** Opens something and closes it. */
export async function closed(
  opening: Promise<Partial<AsyncDisposable & Disposable>>,
): Promise<void> {
  const open = await opening;
  await open[Symbol.asyncDispose]?.();
  open[Symbol.dispose]?.();
}

/** What reads. */
export const readers: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
  "openCheckpoint()": (path) => closed(openCheckpoint(path)),
  "safetensors().open()": async (path) => await closed(safetensors(path).open()),
  "an adapter": (path) => readAdapter(path, { maxBytes: 1e6 }),
  "LocalTokenizer.fromFolder()": (path) => LocalTokenizer.fromFolder(path),
  "readRollout()": (path) => closed(readRollout(path)),
  "jsonLinesDataset()": (path) => closed(jsonLinesDataset(path)),
  "parquetDataset()": (path) => closed(parquetDataset(path)),
  "huggingFaceDataset()": (path) => closed(huggingFaceDataset(path)),
  "ReplayBuffer.restore()": (path) => new ReplayBuffer({ capacity: 1 }).restore(path),
  "DeltaStore": async (path) => {
    const store = new DeltaStore(path);
    // A store without a version is no fault.
    if (await store.newest() === undefined) await store.open(1, "model.safetensors");
  },
  "EmbeddedServer.start()": (model) => closed(EmbeddedServer.start({ model })),
  "publishDelta() of it": async (path) => {
    await using folder = await temporaryFolder();
    await publishDelta(folder.path, path, { version: "1" });
  },
};

/** A row of more than 8 KiB. */
export const batch = new RolloutBatch({
  rows: [rowOf(1, {
    tokenVersions: Int32Array.of(0),
    response: { role: "assistant", content: "Yes".repeat(3000) },
  })],
  shape: [1],
  versionNames: ["0"],
});
const tensor = {
  name: "w",
  dtype: "float32",
  shape: [3000],
  data: new Float32Array(3000),
} as const;

function filledBuffer(): ReplayBuffer {
  const buffer = new ReplayBuffer({ capacity: 1 });
  buffer.extend(batch.rows);
  return buffer;
}

/** What writes; `checkpoint` is one that may be read. */
export const writers: Readonly<
  Record<string, (path: string, checkpoint: string) => Promise<unknown>>
> = {
  "writeSafetensors()": (path) => writeSafetensors(path, [tensor]),
  "writeJsonLines()": (path) => writeJsonLines(path, batch),
  "writeJsonLines() that goes on": (path) => writeJsonLines(path, batch, { append: true }),
  "writeRollout()": (path) => writeRollout(path, batch),
  "ReplayBuffer.save()": (path) => filledBuffer().save(path),
  "jsonLinesSink()": async (path) => {
    await using sink = await jsonLinesSink(path);
    await sink.log(1, { a: 1 });
  },
  "jsonLinesSink() that goes on": async (path) => {
    await using sink = await jsonLinesSink(path, { purgeStep: 1 });
    await sink.log(1, { a: 1 });
  },
  "tensorBoardSink()": async (path) => {
    await using sink = await tensorBoardSink(path);
    await sink.log(1, { a: 1 });
  },
  "makeTinyCheckpoint()": (path) => makeTinyCheckpoint(path),
  "publishDelta() to it": (path, checkpoint) => publishDelta(path, checkpoint, { version: "1" }),
};
