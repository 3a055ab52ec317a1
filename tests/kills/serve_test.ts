/**
 * `sglang-rl serve` with two real replicas and the real router under 64 streams, while its replicas
 * are killed. `deno task test:kills` runs it; `KILLS` is the number of kills, 20 by default.
 */
import assert from "node:assert/strict";
import { makeTinyCheckpoint } from "../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { sleep } from "../../src/internal/deadline.ts";
import { serverPython } from "../_support/real.ts";
import { type Serving, startServing } from "../real/cli/_serving.ts";
import { loadFleet } from "../real/fleet/_killing.ts";
import { run } from "../unit/cli/_support.ts";

/** Longest wait for a replica: more than one start that hangs takes to be given up. */
const HEAL_MS = 300_000;
const LOOK_MS = 20;
/** Time under load between a replica that is back and the next kill. */
const BETWEEN_MS = 2_000;

/** A fleet that serves the weights that a `sync` brought, and an engine that sends it 64 streams. */
async function stage(restartLimit: number, tokens: number) {
  await using stack = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-kills-" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  for (const step of [0, 1]) await makeTinyCheckpoint(`${folder}/step-${step}`, { seed: step });
  const serving = stack.use(
    await startServing({
      python: serverPython(),
      args: [
        ...[`${folder}/step-0`, "-n", "2", `--log-dir=${folder}/logs`],
        ...["--arg=max-running-requests=32", `--restart-limit=${restartLimit}`],
      ],
    }),
  );
  const { url, servers } = await serving.ready();
  const control = ["--control", serving.control];
  const synced = await run(["sync", `${folder}/step-1`, "-r", url, ...control]);
  assert.equal(synced.code, 0, synced.err);
  const engine = stack.use(await AsyncSGLang.connect(url));
  const load = loadFleet(engine, { requests: 64, tokens, version: "step-1", streams: "all" });
  stack.use(load);
  const owned = stack.move();
  return { serving, servers, load, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

/** Kills the process of a server with -9 and waits until it is back, or retired. */
async function kill(serving: Serving, url: string) {
  const look = async () => (await serving.fleet()).servers.find((one) => one.url === url)!;
  const { pid } = await look();
  const startedAt = performance.now();
  Deno.kill(pid!, "SIGKILL");
  for (;;) {
    const server = await look();
    const ms = Math.round(performance.now() - startedAt);
    if (server.state === "retired") return { ...server, ms };
    if (server.state === "healthy" && server.pid !== pid) return { ...server, ms };
    assert.ok(ms < HEAL_MS, `${url} is not back: ${server.state}, ${server.reason}`);
    await sleep(LOOK_MS);
  }
}

Deno.test("serve stays, no stream fails and each killed replica is back with the fleet's version", async () => {
  const kills = Number(Deno.env.get("KILLS") ?? 20);
  const backMs: number[] = [];
  const startedAt = performance.now();
  await using scene = await stage(kills, 48);
  const { serving, servers, load } = scene;
  let streams = 0;
  for (let i = 0; i < kills; i++) {
    const url = servers[i % servers.length]!;
    const { state, weightVersion, ms } = await kill(serving, url);
    assert.equal(state, "healthy");
    assert.equal(weightVersion, "step-1", "it serves with other weights");
    backMs.push(ms);
    await sleep(BETWEEN_MS);
    assert.ok(load.count.streams > streams, "no stream went through since the last kill");
    streams = load.count.streams;
  }
  const minutes = (performance.now() - startedAt) / 60_000;
  // deno-lint-ignore no-console -- the figures are what this is run for
  console.log(JSON.stringify({ kills, minutes, streams, errors: load.errors.length, backMs }));
  assert.deepEqual([load.errors, load.strange], [[], []]);
  Deno.kill(serving.pid, "SIGTERM");
  assert.equal(await serving.ended, 143, "serve was still there");
});

Deno.test("a replica of serve that is killed four times within a minute is retired and told, and the other serves on", async () => {
  await using scene = await stage(3, 24);
  const { serving, servers, load } = scene;
  const [url] = servers as [string, string];
  let kills = 0;
  const startedAt = performance.now();
  let state: string;
  do {
    kills++;
    ({ state } = await kill(serving, url));
  } while (state !== "retired" && kills < 10);
  const seconds = (performance.now() - startedAt) / 1_000;
  const before = load.count.streams;
  while (load.count.streams < before + 64) await sleep(100);
  // deno-lint-ignore no-console -- the figures are what this is run for
  console.log(JSON.stringify({ kills, seconds, ...load.count, errors: load.errors.length }));
  assert.equal(kills, 4);
  assert.ok(serving.told.some((line) => line.startsWith(`${url} retired: `)), "serve said so");
  assert.deepEqual([load.errors, load.strange], [[], []]);
  assert.equal((await run(["restart", url, "--control", serving.control])).code, 0);
});
