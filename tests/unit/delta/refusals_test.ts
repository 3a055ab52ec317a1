/** Stores and servers that answer wrongly or not at all: what a follower and a publisher say of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { writeSafetensors } from "../../../src/checkpoint/mod.ts";
import { DELTA_SCHEMA, type DeltaManifest, parseManifest } from "../../../src/delta/manifest.ts";
import { DeltaStore, Follower, publishDelta } from "../../../src/delta/mod.ts";
import { writeDelta } from "../../../src/delta/xor.ts";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import {
  AbortedError,
  CheckpointError,
  LimitError,
  StateError,
  ValidationError,
} from "../../../src/errors.ts";
import { FakeClock } from "../../_support/clock.ts";
import { seeded } from "../../_support/seeded.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const bytesOf = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
const sha = "0".repeat(64);
const delta = { path: "a.delta", size: 1, baseSha256: sha };
const manifest: DeltaManifest = {
  schema: DELTA_SCHEMA,
  version: "one",
  number: 1,
  files: [{ name: "a.safetensors", size: 1, sha256: sha, delta }, {
    name: "b.safetensors",
    size: 1,
    sha256: sha,
    delta: null,
  }],
};

/** A server on this machine; its address. */
function serve(handler: (request: Request) => Response | Promise<Response>) {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, handler);
  const url = `http://127.0.0.1:${(server.addr as Deno.NetAddr).port}`;
  return { url, [Symbol.asyncDispose]: () => server.shutdown() };
}

Deno.test("a manifest is read as it was written, and each field that is wrong is named", () => {
  assert.deepEqual(parseManifest(bytesOf(manifest), "m"), manifest);
  const [file] = manifest.files;
  const wrong: readonly [Record<string, unknown>, RegExp][] = [
    [{ schema: "sglang-rl.delta/9" }, /m: schema "sglang-rl.delta\/9"/],
    [{ version: "" }, /m: version/],
    [{ number: 0 }, /m: number/],
    [{ number: 1.5 }, /m: number/],
    [{ files: [] }, /m: files/],
    [{ files: [null] }, /m: files\[0\]/],
    // Names that lead out of the folder.
    ...["../a", "a/b", ".a", ""].map((name) =>
      [{ files: [file, { ...file, name }] }, /m: files\[1\] is not/] as [
        Record<string, unknown>,
        RegExp,
      ]
    ),
    [{ files: [{ ...file, size: -1 }] }, /files\[0\]/],
    [{ files: [{ ...file, sha256: `A${sha.slice(1)}` }] }, /files\[0\]/],
    [{ files: [{ ...file, delta: { ...delta, path: "../x" } }] }, /files\[0\]\.delta/],
    [{ files: [{ ...file, delta: "a.delta" }] }, /files\[0\]\.delta/],
    [{ files: [{ ...file, delta: { ...delta, baseSha256: "x" } }] }, /files\[0\]\.delta/],
  ];
  for (const [change, message] of wrong) {
    assert.throws(
      () => parseManifest(bytesOf({ ...manifest, ...change }), "m"),
      (error) => error instanceof CheckpointError && message.test(error.message),
      JSON.stringify(change),
    );
  }
});

Deno.test("a store that answers with an error, or without end, is told with its address", async () => {
  let answer = () => new Response("busy", { status: 503 });
  await using http = serve(() => answer());
  const store = new DeltaStore(http.url);
  await assert.rejects(
    store.newest(),
    (error) =>
      error instanceof CheckpointError && /manifest\.json answered 503/.test(error.message),
  );
  answer = () => {
    const piece = new Uint8Array(8 * 1024 * 1024);
    return new Response(new ReadableStream({ pull: (controller) => controller.enqueue(piece) }));
  };
  await assert.rejects(
    store.newest(),
    (error) => error instanceof LimitError && error.limit === "limits.manifestBytes",
  );
  answer = () => new Response(null, { status: 404 });
  assert.equal(await store.newest(), undefined);
  await assert.rejects(store.open(3, "a"), /\/v3\/a is not there/);
});

Deno.test("a store that breaks off in a file, or that nobody answers at, leaves the old files", async () => {
  await using folder = await temporaryFolder();
  let url: string;
  {
    await using http = serve(({ url }) => {
      if (url.endsWith("/manifest.json")) return new Response(JSON.stringify(manifest));
      return new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(new Uint8Array(1)),
          pull: (controller) => controller.close(),
        }),
        // It says more than it sends.
        { headers: { "content-length": "1000" } },
      );
    });
    url = http.url;
    await Deno.writeTextFile(join(folder.path, "a.safetensors"), "old");
    await assert.rejects(new Follower({ store: url, folder: folder.path }).update());
  }
  await assert.rejects(new Follower({ store: url, folder: folder.path }).update());
  assert.deepEqual(Array.from(Deno.readDirSync(folder.path), ({ name }) => name), [
    "a.safetensors",
  ]);
  assert.equal(await Deno.readTextFile(join(folder.path, "a.safetensors")), "old");
});

Deno.test("a store that gives no answer is given up when the signal fires", async () => {
  const asked = Promise.withResolvers<void>();
  const released = Promise.withResolvers<Response>();
  await using http = serve(() => {
    asked.resolve();
    return released.promise;
  });
  const stop = new AbortController();
  const newest = new DeltaStore(http.url).newest(stop.signal);
  await asked.promise;
  stop.abort();
  await assert.rejects(newest, AbortedError);
  released.resolve(new Response());
});

Deno.test("a follower goes on through failures, tells each, and ends with the signal", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await Deno.mkdir(at("local"));
  await makeTinyCheckpoint(at("v1"), { seed: 0, dtype: "float32" });
  await Deno.mkdir(at("store"));
  await Deno.writeTextFile(at("store/manifest.json"), "{");
  const clock = new FakeClock();
  const warnings: string[] = [];
  const warned = Promise.withResolvers<void>();
  const follower = new Follower({
    store: at("store"),
    folder: at("local"),
    pollMs: 1000,
    clock,
    logger: {
      debug() {},
      info() {},
      error() {},
      warn(line) {
        warnings.push(line);
        warned.resolve();
      },
    },
  });
  assert.equal(follower.version, undefined);
  const stop = new AbortController();
  const reports = follower.run({ signal: stop.signal });
  const first = reports.next();
  await warned.promise;
  assert.match(warnings[0]!, /The store could not be followed/);
  await Deno.remove(at("store"), { recursive: true });
  await publishDelta(at("store"), at("v1"), { version: "one" });
  await clock.advance(1000);
  const { value } = await first;
  assert.equal(value?.version, "one");
  assert.equal(follower.version, "one");
  assert.equal(warnings.length, 1);
  const second = reports.next();
  stop.abort();
  assert.deepEqual(await second, { done: true, value: undefined });
  await assert.rejects(new Follower({ store: at("store"), folder: at("new") }).update({
    signal: stop.signal,
  }));
});

Deno.test("options that are none are refused by name", async () => {
  await using folder = await temporaryFolder();
  const { path } = folder;
  for (
    const [options, message] of [
      [{ store: "", folder: path }, /store/],
      [{ store: path, folder: "" }, /folder/],
      [{ store: path, folder: path, pollMs: 0 }, /pollMs must be above 0/],
    ] as const
  ) {
    assert.throws(
      () => new Follower(options),
      (error) => error instanceof ValidationError && message.test(error.message),
    );
  }
  for (
    const [options, message] of [
      [{ version: "" }, /version/],
      [{ version: "v", keepWhole: 0 }, /keepWhole must be a whole number from 1 on, got 0/],
      [{ version: "v", keepDeltas: 1.5 }, /keepDeltas must be .* got 1\.5/],
    ] as const
  ) {
    await assert.rejects(
      publishDelta(join(path, "store"), path, options),
      (error) => error instanceof ValidationError && message.test(error.message),
    );
  }
  // Nothing was made.
  assert.deepEqual([...Deno.readDirSync(path)], []);
});

Deno.test("where all bytes differ no delta is kept, and followers take the whole file", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  for (const [seed, name] of ["v1", "v2"].entries()) {
    const random = seeded(seed + 1);
    const bits = Uint32Array.from({ length: 5000 }, () => random() * 2 ** 32);
    await Deno.mkdir(at(name));
    const data = new Float32Array(bits.buffer);
    await writeSafetensors(at(`${name}/model.safetensors`), [
      { name: "w", dtype: "float32", shape: [5000], data },
    ]);
    await publishDelta(at("store"), at(name), { version: name });
  }
  const newest = (await new DeltaStore(at("store")).newest())!;
  assert.deepEqual(newest.files.map(({ delta }) => delta), [null]);
  assert.deepEqual(
    Array.from(Deno.readDirSync(at("store/v2")), ({ name }) => name).sort(),
    ["manifest.json", "model.safetensors"],
  );
  await assert.rejects(publishDelta(at("store"), at("v1"), { version: "v2" }), StateError);
  const report = await new Follower({ store: at("store"), folder: at("v1") }).update();
  assert.deepEqual([report!.patched, report!.whole], [0, 1]);
});

Deno.test("a delta that is damaged in the middle is closed, and no part of it stays", async () => {
  await using folder = await temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  await makeTinyCheckpoint(at("v1"), { seed: 0, dtype: "float32" });
  await publishDelta(at("store"), at("v1"), { version: "v1" });
  await Deno.mkdir(at("local"));
  const follower = new Follower({ store: at("store"), folder: at("local") });
  await follower.update();
  for (const [i, version] of ["v2", "v3"].entries()) {
    await publishDelta(at("store"), at("v1"), { version });
    const path = at("v1/model.safetensors");
    const bytes = await Deno.readFile(path);
    bytes[bytes.length - 1]! ^= 1 << i;
    await Deno.writeFile(path, bytes);
  }
  await publishDelta(at("store"), at("v1"), { version: "v4" });
  for (const version of ["v3", "v4"]) {
    const path = at(`store/${version}/model.safetensors.delta`);
    // Its first part says that it is longer than the file.
    const bytes = new Uint8Array(200_000);
    bytes.set((await Deno.readFile(path)).subarray(0, 8));
    bytes.fill(0x7f, 8);
    await Deno.writeFile(path, bytes);
  }
  const report = await follower.update();
  assert.deepEqual([report!.patched, report!.whole], [0, 1]);
  assert.deepEqual(
    Array.from(Deno.readDirSync(at("local")), ({ name }) => name),
    ["model.safetensors"],
  );
});

Deno.test("files of two sizes have no delta", async () => {
  await using folder = await temporaryFolder();
  const [a, b, d] = ["a", "b", "d"].map((name) => join(folder.path, name));
  await Deno.writeFile(a!, new Uint8Array(10));
  await Deno.writeFile(b!, new Uint8Array(11));
  await assert.rejects(
    writeDelta(a!, b!, d!),
    (error) => error instanceof CheckpointError && /have not the same size/.test(error.message),
  );
});
