/**
 * `serve` with real processes under real keepers: in place of SGLang, Python starts the embedded
 * server. What the real SGLang does is for tests/real/cli.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type ControlledFleet, controlledFleet } from "../../../src/cli/control_client.ts";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { freePort } from "../../_support/free_port.ts";
import { makeStandIn } from "../../_support/stand_in_sglang.ts";
import { jsonLines, run } from "./_support.ts";

const program = new URL("../../../src/cli/mod.ts", import.meta.url).pathname;

interface Scene extends AsyncDisposable {
  readonly folder: string;
  readonly serve: Deno.ChildProcess;
  readonly servers: readonly string[];
  readonly control: string;
  /** Reads what serve tells until a line fits. */
  told(pattern: RegExp): Promise<void>;
  /** The servers as the control endpoint tells them. */
  fleet(): Promise<ControlledFleet["servers"]>;
}

async function startServe(...more: string[]): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir({ prefix: "sglang-rl-serve-" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const env = await makeStandIn(folder);
  for (const step of [0, 1]) await makeTinyCheckpoint(join(folder, `step-${step}`), { seed: step });
  const port = freePort();
  const serve = new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", "--no-check", "--quiet", program, "serve", join(folder, "step-0")],
      ...["-n", "2", "--no-router", "--device=cpu", "--json", `--control-port=${port}`, ...more],
    ],
    env: { ...env, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  stack.defer(async () => {
    try {
      serve.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await serve.status;
    await untilNothingLeft(folder);
  });
  const reader = serve.stdout.pipeThrough(new TextDecoderStream()).getReader();
  stack.defer(() => reader.cancel());
  const { value = "" } = await reader.read();
  const events = readLines(serve.stderr);
  stack.defer(async () => {
    await events.return(undefined);
    // One that was never read from does not close what it would have read.
    await serve.stderr.cancel();
  });
  const { servers } = JSON.parse(value) as { servers: string[] };
  const control = `http://127.0.0.1:${port}`;
  const owned = stack.move();
  return {
    folder,
    serve,
    servers,
    control,
    async told(pattern) {
      for (;;) {
        const { done, value: line } = await events.next();
        assert.ok(!done, `serve ended without ${pattern}`);
        if (pattern.test(line)) return;
      }
    },
    async fleet() {
      const { signal } = new AbortController();
      return (await controlledFleet({ url: control, key: undefined, signal })).servers;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** Waits for the end of every process that has to do with a folder. */
async function untilNothingLeft(folder: string): Promise<void> {
  for (;;) {
    const { stdout } = await new Deno.Command("pgrep", { args: ["-f", folder] }).output();
    const [pid] = new TextDecoder().decode(stdout).split("\n");
    if (pid === undefined || pid === "") return;
    await new Deno.Command("tail", { args: [`--pid=${pid}`, "-f", "/dev/null"] }).output();
  }
}

Deno.test("serve outlives a replica: killed with -9 it is back with the synced weights", async () => {
  await using scene = await startServe();
  const { folder, servers, control } = scene;
  const [victim, other] = servers as [string, string];
  const state = async () => (await scene.fleet()).find(({ url }) => url === victim)!;
  const synced = await run([
    ...["sync", join(folder, "step-1"), "-s", servers.join(","), "--control", control],
  ]);
  assert.equal(synced.code, 0, synced.err);
  const { pid } = await state();
  Deno.kill(pid!, "SIGKILL");
  await scene.told(/ dead: its process ended with SIGKILL/);
  const meanwhile = await run(["generate", "-s", other, "Hello", "-m", "2"]);
  assert.equal(meanwhile.code, 0, meanwhile.err);
  await scene.told(/ healthy: /);
  const after = await state();
  assert.notEqual(after.pid, pid);
  assert.equal(after.weightVersion, "step-1");
  const status = await run(["status", "-s", servers.join(","), "--json"]);
  assert.deepEqual(jsonLines(status.out).map((one) => one.weight_version), ["step-1", "step-1"]);

  // Orders of other shells.
  const order = (...args: string[]) => run([...args, "--control", control]);
  assert.equal((await order("restart", victim)).code, 0);
  assert.notEqual((await state()).pid, after.pid);
  assert.equal((await state()).weightVersion, "step-1");
  assert.match((await order("logs", victim)).out, /Ready at/);
  for (const command of ["drain", "restart", "logs"]) {
    const { code, err } = await order(command, "foo");
    assert.equal(code, 2);
    for (const server of servers) assert.ok(err.includes(server), err);
  }
  const drained = await order("drain", `${victim}/`, "--json");
  assert.equal(drained.code, 0, drained.err);
  const [told] = jsonLines(drained.out);
  assert.deepEqual({ server: told!.server, url: told!.url }, { server: victim, url: undefined });
  const seen = await order("status", "-s", servers.join(","), "--json");
  assert.deepEqual(
    jsonLines(seen.out).map((one) => [one.state, one.reason, one.is_drained]),
    [["stale", "it is drained", true], ["healthy", "it is new", false]],
  );
  assert.match(
    (await order("status", "-s", servers.join(","))).out,
    / stale, drained .*\n.* healthy /,
  );
  const last = await order("drain", other);
  assert.deepEqual([last.code, last.err], [1, `error: ${other} is the last server that serves\n`]);
  const needed = await order("restart", other);
  assert.equal(needed.code, 1);
  assert.match(needed.err, /is needed.*or give --force\n$/);
});

Deno.test("whoever is synced and whoever dies, a server of serve does not serve beside other weights", async () => {
  await using scene = await startServe();
  const { folder, servers, control } = scene;
  const [first, second] = servers as [string, string];
  const step = join(folder, "step-1");
  const sync = async (...whom: string[]) => {
    const args = ["sync", step, "-s", whom.join(","), "--control", control, "--json"];
    const { code, out, err } = await run(args);
    assert.equal(code, 0, err);
    const [report] = jsonLines(out);
    return { report: report!, err };
  };
  const versions = async () => {
    const { out } = await run(["status", "-s", servers.join(","), "--json"]);
    return jsonLines(out).map((one) => one.weight_version);
  };

  // A part of the fleet: the rest is named, taken out and brought the same weights.
  const part = await sync(first);
  assert.deepEqual(part.report.not_synced, [second]);
  assert.ok(part.err.startsWith(`warning: ${second} was not synced; it is stale`), part.err);
  await scene.told(new RegExp(`^${second} stale: .*"step-1"`));
  await scene.told(new RegExp(`^${second} healthy: `));
  assert.deepEqual(await versions(), ["step-1", "step-1"]);

  // All die at once.
  for (const { pid } of await scene.fleet()) Deno.kill(pid!, "SIGKILL");
  for (const _ of servers) await scene.told(/ healthy: /);
  assert.deepEqual(await versions(), ["step-1", "step-1"]);

  // Another program brings weights, of which serve is not told.
  for (const url of servers) {
    const body = JSON.stringify({ new_version: "step-9", abort_all_requests: false });
    await (await fetch(`${url}/update_weight_version`, { method: "POST", body })).text();
  }
  Deno.kill((await scene.fleet())[0]!.pid!, "SIGKILL");
  await scene.told(/ waits: it waits for the next sync: .*"default", the others' "step-9"/);
  // The router's list, and so a sync, may be without it; a sync of all brings it back.
  assert.deepEqual((await sync(first, second)).report.not_synced, []);
  await scene.told(new RegExp(`^${first} healthy: `));

  // Files that changed are not brought under the old name.
  await makeTinyCheckpoint(step, { seed: 2 });
  Deno.kill((await scene.fleet())[0]!.pid!, "SIGKILL");
  await scene.told(/ was not refitted: .*step-1 changed since it was synced as "step-1"/);
});

Deno.test("serve --no-supervise ends with 1 with the first server that dies, and takes the others along", async () => {
  await using scene = await startServe("--no-supervise");
  const { stdout } = await new Deno.Command("pgrep", {
    args: ["-f", `serve --embedded ${scene.folder}/step-0`],
  }).output();
  const pids = new TextDecoder().decode(stdout).trim().split("\n");
  assert.equal(pids.length, 2);
  Deno.kill(Number(pids[0]), "SIGKILL");
  assert.equal((await scene.serve.status).code, 1);
  await untilNothingLeft(scene.folder);
});

Deno.test("kill -9 of serve, and a closed terminal, leave no process", async () => {
  for (const signal of ["SIGKILL", "SIGHUP"] as const) {
    await using scene = await startServe();
    scene.serve.kill(signal);
    await scene.serve.status;
    await untilNothingLeft(scene.folder);
  }
});
