/** Stores without end: what a follower takes of them, and how long it waits. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DELTA_SCHEMA, type DeltaManifest } from "../../../src/delta/manifest.ts";
import { type DeltaLimits, DeltaStore, Follower } from "../../../src/delta/mod.ts";
import { FakeClock, until } from "../../_support/clock.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const sha = "0".repeat(64);
const file = { name: "model.safetensors", size: 10, sha256: sha, delta: null };

function manifest(number: number, change: Partial<DeltaManifest> = {}): DeltaManifest {
  return { schema: DELTA_SCHEMA, version: `v${number}`, number, files: [file], ...change };
}

/** A store over HTTP; its handler gets the path. Streams end when it is closed. */
function serve(handler: (path: string) => Response) {
  const asked: string[] = [];
  const stop = new AbortController();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {}, signal: stop.signal, onError: gone },
    ({ url }) => {
      const { pathname } = new URL(url);
      asked.push(pathname);
      return handler(pathname);
    },
  );
  const url = `http://127.0.0.1:${server.addr.port}`;
  return {
    url,
    asked,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await server.finished;
    },
  };
}

const gone = () => new Response(null, { status: 500 });
const json = (value: unknown) => new Response(JSON.stringify(value));
const none = () => new Response(null, { status: 404 });
/** Sends some bytes and then nothing. */
const stuck = (text: string) =>
  new Response(
    new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode(text)),
    }),
  );

Deno.test("each limit of a store is kept, and the error names it", async () => {
  const stores: Readonly<Record<string, readonly [DeltaLimits, unknown]>> = {
    manifestBytes: [{ manifestBytes: 100 }, manifest(1)],
    files: [{ files: 1 }, manifest(1, { files: [file, { ...file, name: "b.safetensors" }] })],
    bytes: [{ bytes: 9 }, manifest(1)],
  };
  for (const [name, [limits, value]] of Object.entries(stores)) {
    await using store = serve(() => json(value));
    await using folder = await temporaryFolder();
    const update = new Follower({ store: store.url, folder: folder.path, limits }).update();
    await assert.rejects(update, { code: "limit", limit: `limits.${name}` }, name);
    assert.deepEqual(store.asked, ["/manifest.json"]);
  }
});

Deno.test("a manifest that does not end in time is given up", async () => {
  await using store = serve(() => stuck("{"));
  const clock = new FakeClock();
  const newest = new DeltaStore(store.url, { clock }).newest().catch((error) => error);
  await until(() => store.asked.length === 1);
  await clock.advance(30_000);
  assert.equal((await newest).code, "timeout");
});

Deno.test("files that do not come in time are given up, and the old ones stay", async () => {
  await using store = serve((path) => path === "/manifest.json" ? json(manifest(1)) : stuck("x"));
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(join(folder.path, file.name), "old");
  const clock = new FakeClock();
  const follower = new Follower({ store: store.url, folder: folder.path, clock });
  const update = follower.update().catch((error) => error);
  await until(() => store.asked.length === 2);
  await clock.advance(3_600_000);
  assert.equal((await update).code, "timeout");
  assert.deepEqual(Array.from(Deno.readDirSync(folder.path), ({ name }) => name), [file.name]);
  assert.equal(await Deno.readTextFile(join(folder.path, file.name)), "old");
});

Deno.test("a file that is longer than its manifest says does not fill the disk", async () => {
  const endless = () =>
    new Response(
      new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(65_536)) }),
    );
  await using store = serve((path) => path === "/manifest.json" ? json(manifest(1)) : endless());
  await using folder = await temporaryFolder();
  const update = new Follower({ store: store.url, folder: folder.path }).update();
  await assert.rejects(update, { code: "checkpoint" });
  assert.deepEqual([...Deno.readDirSync(folder.path)], []);
});

Deno.test("of a store that is far ahead so many versions are read, and files are taken whole", async () => {
  const bytes = new Uint8Array(10);
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  const files = [{ ...file, sha256: new Uint8Array(digest).toHex() }];
  let newest = manifest(1, { files });
  await using store = serve((path) => {
    if (path === "/manifest.json") return json(newest);
    const number = Number(/^\/v(\d+)\/manifest\.json$/.exec(path)?.[1]);
    return number > 0 ? json(manifest(number)) : new Response(bytes);
  });
  await using folder = await temporaryFolder();
  const limits = { versions: 5 };
  const follower = new Follower({ store: store.url, folder: folder.path, limits });
  await follower.update();
  await Deno.remove(join(folder.path, file.name));
  store.asked.length = 0;
  newest = manifest(2 ** 50, { files });
  const report = await follower.update();
  assert.deepEqual([report!.patched, report!.whole], [0, 1]);
  assert.equal(store.asked.filter((path) => path.endsWith("manifest.json")).length, 5);
});

Deno.test("a version that says another number is refused", async () => {
  await using store = serve((path) => path === "/v3/manifest.json" ? json(manifest(4)) : none());
  await assert.rejects(new DeltaStore(store.url).version(3), { code: "checkpoint" });
  assert.equal(await new DeltaStore(store.url).version(2), undefined);
});

Deno.test("pipes, folders and loops in a store or a model folder are told, not waited for", async () => {
  const makes: Readonly<Record<string, (path: string) => Promise<unknown>>> = {
    pipe: (path) => new Deno.Command("mkfifo", { args: [path] }).output(),
    folder: (path) => Deno.mkdir(path),
    loop: (path) => Deno.symlink(path, path),
  };
  for (const [kind, make] of Object.entries(makes)) {
    await using store = await temporaryFolder();
    await make(join(store.path, "manifest.json"));
    await assert.rejects(new DeltaStore(store.path).newest(), { code: "checkpoint" }, kind);

    await using other = await temporaryFolder();
    await using folder = await temporaryFolder();
    await Deno.writeTextFile(join(other.path, "manifest.json"), JSON.stringify(manifest(1)));
    await make(join(folder.path, file.name));
    const update = new Follower({ store: other.path, folder: folder.path }).update();
    await assert.rejects(
      update,
      (error: { code?: string }) => typeof error.code === "string",
      kind,
    );
  }
});
