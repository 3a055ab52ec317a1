/** Servers that go, refuse, forget or have no room while an adapter is brought. */
import assert from "node:assert/strict";
import { FleetAdapters } from "../../../src/adapters/fleet_adapters.ts";
import type { AdapterWorker } from "../../../src/adapters/fleet_options.ts";
import type { AdapterUpload } from "../../../src/adapters/upload.ts";
import type { SGLangClient } from "../../../src/client/mod.ts";
import {
  AbortedError,
  AdapterSyncError,
  HttpError,
  StateError,
  TimeoutError,
  UnreachableError,
} from "../../../src/errors.ts";
import { FakeClock, until } from "../../_support/clock.ts";

/** A server as its calls show it. */
class Server {
  readonly loaded = new Set<string>();
  /** What the next loads and unloads fail with. */
  loadFailure: Error | undefined;
  unloadFailure: Error | undefined;
  readonly maxLoaded: number | null;
  readonly worker: AdapterWorker;

  constructor(name: string, maxLoaded: number | null = null) {
    this.maxLoaded = maxLoaded;
    const url = `http://${name}`;
    const client = {
      url,
      serverInfo: () =>
        Promise.resolve({
          tpSize: 1,
          dpSize: 1,
          raw: { enable_lora: true, max_loaded_loras: this.maxLoaded },
        }),
      loadedLoras: () => Promise.resolve([...this.loaded]),
      unloadLora: (lora: string) => {
        if (this.unloadFailure !== undefined) return Promise.reject(this.unloadFailure);
        this.loaded.delete(lora);
        return Promise.resolve([...this.loaded]);
      },
    } as unknown as SGLangClient;
    this.worker = { url, client };
  }
}

function setUp(servers: readonly Server[], onLacking?: (url: string) => Promise<void>) {
  const clock = new FakeClock();
  const warnings: string[] = [];
  const adapters = new FleetAdapters({
    workers: () => servers.map(({ worker }) => worker),
    onLacking,
    clock,
    logger: { debug() {}, info() {}, error() {}, warn: (line) => void warnings.push(line) },
  });
  const upload: AdapterUpload = {
    via: "tensors",
    rank: 1,
    targets: [],
    byteLength: 1,
    load({ client }, name) {
      const server = servers.find(({ worker }) => worker.client === client)!;
      if (server.loadFailure !== undefined) return Promise.reject(server.loadFailure);
      server.loaded.add(name);
      return Promise.resolve([...server.loaded]);
    },
  };
  const bring = (options: { signal?: AbortSignal; keep?: number } = {}) =>
    adapters.bring(upload, { name: "policy", keep: 2, loadMs: 1000, unloadMs: 1000, ...options });
  return { adapters, clock, warnings, bring };
}

const gone = () => new UnreachableError("nobody answers", { url: "http://b" });
const refusal = (status: number) =>
  new HttpError("POST /load", { status, endpoint: "POST /load", serverMessage: "no" });

Deno.test("a server that cannot be reached is left out, and the others serve the adapter", async () => {
  const [a, b] = [new Server("a"), new Server("b")];
  const lacking: string[] = [];
  const { adapters, bring, warnings } = setUp([a, b], (url) => {
    lacking.push(url);
    return Promise.resolve();
  });
  b.loadFailure = gone();
  const report = await bring();
  assert.deepEqual(report.servers.map(({ url }) => url), ["http://a"]);
  assert.deepEqual(report.leftOut, [{ url: "http://b", problem: "nobody answers" }]);
  assert.deepEqual(lacking, ["http://b"]);
  assert.equal(warnings.length, 1);
  assert.equal(adapters.resolve("newest"), "policy@1");
  // It comes back with nothing, and gets what it lacks.
  b.loadFailure = undefined;
  assert.deepEqual(await adapters.look(b.worker), ["policy@1"]);
  await adapters.equip(b.worker);
  assert.deepEqual([...b.loaded], ["policy@1"]);
  assert.deepEqual(await adapters.look(b.worker), []);
  adapters.forget(b.worker.url);
  assert.deepEqual(adapters.loaded, [{ name: "policy@1", uses: 0, servers: 1 }]);
});

Deno.test("where nobody can leave a server out, or none has it, the sync fails and its name is used up", async () => {
  for (const mayLeaveOut of [false, true]) {
    const [a, b] = [new Server("a"), new Server("b")];
    const { adapters, bring } = setUp([a, b], mayLeaveOut ? async () => {} : undefined);
    b.loadFailure = gone();
    if (mayLeaveOut) a.loadFailure = gone();
    await assert.rejects(bring(), (error) => {
      assert.ok(error instanceof AdapterSyncError);
      assert.match(error.message, /"policy@1".*No server keeps it, and its name is used up/s);
      assert.equal(error.failures.length, mayLeaveOut ? 2 : 1);
      return true;
    });
    await adapters.idle();
    assert.deepEqual([...a.loaded, ...b.loaded, ...adapters.ready], []);
    [a.loadFailure, b.loadFailure] = [undefined, undefined];
    assert.equal((await bring()).name, "policy@2");
  }
});

Deno.test("a server that refuses fails the sync even where others could be left out", async () => {
  const [a, b] = [new Server("a"), new Server("b")];
  const { adapters, bring } = setUp([a, b], () => assert.fail("it is not left out"));
  b.loadFailure = refusal(400);
  await assert.rejects(bring(), AdapterSyncError);
  await adapters.idle();
  assert.deepEqual([...a.loaded], []);
});

Deno.test("a sync that is aborted leaves no server with the adapter", async () => {
  const server = new Server("a");
  const { adapters, bring } = setUp([server], () => assert.fail("it is not left out"));
  const stop = new AbortController();
  server.loadFailure = new AbortedError("stopped");
  stop.abort();
  await assert.rejects(bring({ signal: stop.signal }), AbortedError);
  await adapters.idle();
  assert.deepEqual([...adapters.ready, ...adapters.loaded], []);
});

Deno.test("a server that says that it loaded, and does not list it, is not believed", async () => {
  const server = new Server("a");
  const { bring } = setUp([server]);
  const has = server.loaded.add;
  server.loaded.add = () => server.loaded;
  await assert.rejects(
    bring(),
    (error) => error instanceof AdapterSyncError && error.cause instanceof StateError,
  );
  server.loaded.add = has;
  assert.equal((await bring()).name, "policy@2");
});

Deno.test("an unload that fails is told, and tried again with the next sync", async () => {
  const server = new Server("a");
  const { adapters, bring, warnings } = setUp([server]);
  await bring({ keep: 1 });
  server.unloadFailure = gone();
  await bring({ keep: 1 });
  await adapters.idle();
  assert.match(warnings[0]!, /http:\/\/a did not unload "policy@1": nobody answers/);
  assert.deepEqual(adapters.loaded.map(({ name }) => name), ["policy@1", "policy@2"]);
  server.unloadFailure = undefined;
  await bring({ keep: 2 });
  await adapters.idle();
  assert.deepEqual([...server.loaded], ["policy@2", "policy@3"]);
  // A server that has none of that name has unloaded it.
  server.unloadFailure = refusal(400);
  await adapters.clear();
  assert.deepEqual(adapters.loaded, []);
  assert.equal(warnings.length, 1);
});

Deno.test("where a server has no room, a sync waits for a call to end, and not for ever", async () => {
  const server = new Server("a", 2);
  const { adapters, bring, clock } = setUp([server]);
  await bring({ keep: 1 });
  const lease = adapters.lease("policy@1");
  await bring({ keep: 1 });
  const late = assert.rejects(bring({ keep: 1 }), (error) => {
    assert.ok(error instanceof AdapterSyncError && error.cause instanceof TimeoutError);
    return /--max-loaded-loras/.test(error.message);
  });
  await until(() => clock.pending > 0);
  await clock.advance(1000);
  await late;
  const third = bring({ keep: 1 });
  lease[Symbol.dispose]();
  // Disposing twice counts once.
  lease[Symbol.dispose]();
  assert.equal((await third).name, "policy@4");
  await adapters.idle();
  assert.deepEqual([...server.loaded], ["policy@4"]);
});
