import assert from "node:assert/strict";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import { readAdapter } from "../../../src/adapters/adapter.ts";
import { openCheckpoint, writeSafetensors } from "../../../src/checkpoint/mod.ts";
import {
  ReplayBuffer,
  RolloutBatch,
  writeJsonLines,
  writeRollout,
} from "../../../src/collector/mod.ts";
import { huggingFaceDataset, jsonLinesDataset, parquetDataset } from "../../../src/datasets/mod.ts";
import { DeltaStore, publishDelta } from "../../../src/delta/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { isSGLangError } from "../../../src/errors.ts";
import { serversInFile } from "../../../src/fleet/mod.ts";
import { LocalTokenizer } from "../../../src/policy/local_tokenizer.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { jsonLinesSink, tensorBoardSink } from "../../../src/sinks/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { rowOf } from "../../_support/rollout_rows.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

type Take = (path: string) => Promise<unknown>;

async function closed(opening: Promise<Partial<AsyncDisposable & Disposable>>): Promise<void> {
  const open = await opening;
  await open[Symbol.asyncDispose]?.();
  open[Symbol.dispose]?.();
}

const readers: Readonly<Record<string, Take>> = {
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

const batch = new RolloutBatch({
  rows: [rowOf(1, { tokenVersions: Int32Array.of(0) })],
  shape: [1],
  versionNames: ["0"],
});
const tensor = { name: "w", dtype: "float32", shape: [1], data: Float32Array.of(1) } as const;

/** What writes; `checkpoint` is one that may be read. */
const writers: Readonly<Record<string, (path: string, checkpoint: string) => Promise<unknown>>> = {
  "writeSafetensors()": (path) => writeSafetensors(path, [tensor]),
  "writeJsonLines()": (path) => writeJsonLines(path, batch),
  "writeJsonLines() that goes on": (path) => writeJsonLines(path, batch, { append: true }),
  "writeRollout()": (path) => writeRollout(path, batch),
  "ReplayBuffer.save()": (path) => new ReplayBuffer({ capacity: 1 }).save(path),
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

/** What stands at a path, or what is wrong with it. */
type Odd = (folder: string) => string | URL;

/** Nobody can take these, whether to read or to write. */
const impossible: Readonly<Record<string, Odd>> = {
  "a name of 300 letters": (folder) => join(folder, "a".repeat(300)),
  "a path of 5,000 letters": (folder) => join(folder, "a/".repeat(2500), "b"),
  "something in a loop of links": (folder) => join(folder, "loop/a"),
  "something in a file": (folder) => join(folder, "file/a"),
  "a NUL in the path": (folder) => join(folder, "a\0b"),
  "half a letter in the path": (folder) => join(folder, "\ud800"),
  "an empty text": () => "",
  "no text": () => 5 as never,
  "nothing given": () => undefined as never,
  "null": () => null as never,
  "a URL of something else": () => new URL("http://127.0.0.1:1/x"),
  "a URL of another machine": () => new URL("file://other/x"),
  "a broken % in a URL": (folder) => new URL(`${pathToFileURL(folder)}/%zz`),
  "bytes that are no letter in a URL": (folder) => new URL(`${pathToFileURL(folder)}/%ff`),
  "a NUL in a URL": (folder) => new URL(`${pathToFileURL(folder)}/%00`),
  "a slash's code in a URL": (folder) => new URL(`${pathToFileURL(folder)}/a%2fb`),
};
/** Nobody can read these. */
const unreadable: Readonly<Record<string, Odd>> = {
  "nothing at the path": (folder) => join(folder, "missing"),
  "nothing in a folder that is missing": (folder) => join(folder, "missing/a/b"),
  "an empty folder": (folder) => join(folder, "folder"),
  "a pipe": (folder) => join(folder, "pipe"),
  "a loop of links": (folder) => join(folder, "loop"),
  "a device without end": () => "/dev/zero",
};

/** The error of each, all at once: a call that hangs ends the test. */
async function errorsOf(
  take: (path: string) => Promise<unknown>,
  paths: Readonly<Record<string, Odd>>,
  folder: string,
): Promise<Record<string, unknown>> {
  const errors: Record<string, unknown> = {};
  await Promise.all(
    Object.entries(paths).map(async ([what, path]) => {
      try {
        errors[what] = await take(path(folder) as string);
      } catch (error) {
        errors[what] = error;
      }
    }),
  );
  return errors;
}

async function oddFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await new Deno.Command("mkfifo", { args: [at("pipe")] }).output();
  await Deno.symlink(at("loop"), at("loop"));
  await Deno.writeTextFile(at("file"), "x");
  await Deno.mkdir(at("folder"));
  return folder;
}

function checkOurs(name: string, errors: Readonly<Record<string, unknown>>): void {
  for (const [what, error] of Object.entries(errors)) {
    assert.ok(isSGLangError(error), `${name}, ${what}: ${Deno.inspect(error)}`);
    assert.ok(error.message.length < 12_000, `${name}, ${what}: a long message`);
  }
}

for (const [name, read] of Object.entries(readers)) {
  Deno.test(`${name} refuses every path that cannot be read, at once and by an error of ours`, async () => {
    await using folder = await oddFolder();
    checkOurs(name, await errorsOf(read, { ...impossible, ...unreadable }, folder.path));
  });
}

Deno.test("what writes refuses every path that cannot be written, by an error of ours", async () => {
  await using folder = await oddFolder();
  const checkpoint = join(folder.path, "checkpoint");
  await makeTinyCheckpoint(checkpoint);
  for (const [name, write] of Object.entries(writers)) {
    const take = (path: string) => write(path, checkpoint);
    checkOurs(name, await errorsOf(take, impossible, folder.path));
  }
});

Deno.test("a pipe that nobody reads holds nobody who writes, and a full disk is told", async () => {
  await using folder = await oddFolder();
  const at = { "a pipe": () => join(folder.path, "pipe"), "a full disk": () => "/dev/full" };
  const goOn = Object.entries(writers).filter(([name]) =>
    /writeJsonLines|jsonLinesSink/.test(name)
  );
  for (const [name, write] of goOn) {
    const errors = await errorsOf((path) => write(path, ""), at, folder.path);
    checkOurs(name, errors);
  }
});

Deno.test("a pipe that is read can be written", async () => {
  await using folder = await oddFolder();
  const path = join(folder.path, "pipe");
  const reader = new Deno.Command("cat", { args: [path], stdout: "piped" }).spawn();
  const told = new Response(reader.stdout).text();
  // Until cat has opened it, nobody reads it.
  for (;;) {
    try {
      await writeJsonLines(path, batch);
      break;
    } catch (error) {
      assert.ok(isSGLangError(error) && error.code === "validation", Deno.inspect(error));
    }
  }
  await reader.status;
  assert.equal((await told).trim().split("\n").length, 1);
});

Deno.test("servers in a file: a path that cannot be read is told while it is polled", () => {
  for (const [what, path] of Object.entries(impossible)) {
    if (!/URL|NUL|half|text|given|null/.test(what)) continue;
    assert.throws(() => serversInFile(path("/tmp") as string), isSGLangError, what);
  }
});

Deno.test("whatever a name is made of, a reader gives an error of ours", async () => {
  await using folder = await temporaryFolder();
  const anyName = fc.string({ unit: "binary", minLength: 1 }).filter((name) => !/^\.*$/.test(name));
  await fc.assert(
    fc.asyncProperty(anyName, async (name) => {
      const path = `${folder.path}/missing/${name}`;
      for (const read of [openCheckpoint, readRollout, jsonLinesDataset]) {
        await assert.rejects(closed(read(path)), isSGLangError);
      }
    }),
    { numRuns: 200 },
  );
});
