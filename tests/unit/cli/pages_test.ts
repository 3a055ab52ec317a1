import assert from "node:assert/strict";
import { exitCodes } from "../../../src/cli/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { FleetControl, FleetSupervisor } from "../../../src/fleet/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { freePort } from "../../_support/free_port.ts";
import { FakeFleet } from "../fleet/_fake_fleet.ts";
import { jsonLinesSink } from "../../../src/sinks/mod.ts";
import { rowLine, writeRows } from "../dashboard/_rows.ts";
import { startTiny } from "../embedded/_support.ts";
import { run } from "./_support.ts";

/** Runs a command until it has told its page, does something there, and ends it as Ctrl-C does. */
async function withPage(
  args: readonly string[],
  work: (url: string) => Promise<void>,
  env: Record<string, string> = {},
): Promise<void> {
  const stop = new AbortController();
  const listening = Promise.withResolvers<string>();
  const running = run(args, {
    env,
    signal: stop.signal,
    onOut: (out) => listening.resolve(/http:\S+/.exec(out)![0]),
  });
  running.then(({ err }) => listening.reject(new Error(err)));
  try {
    await work(await listening.promise);
  } finally {
    stop.abort();
    await running;
  }
}

Deno.test("view serves the trajectories of a file until it is ended", async () => {
  await using folder = await temporaryFolder();
  await writeRows(`${folder.path}/rows.jsonl`, 3);
  await withPage(["view", `${folder.path}/rows.jsonl`, "--listen", "0"], async (url) => {
    const { total } = await (await fetch(new URL("/api/rows", url))).json();
    assert.equal(total, 12);
  });
  const { code, err } = await run(["view", `${folder.path}/none.jsonl`]);
  assert.equal(code, exitCodes.usage);
  assert.match(err, /none\.jsonl/);
});

const key = "a-key-of-the-dashboard";
const env = { SGLANG_RL_DASHBOARD_KEY: key };

interface Tile {
  readonly url: string;
  readonly state: string | null;
  readonly answers: boolean | null;
  readonly isPaused: boolean;
  readonly reason: string | null;
  readonly weightVersion: string | null;
}

async function tilesOf(url: string): Promise<Tile[]> {
  return (await (await fetch(new URL("/api/state", url))).json()).servers;
}

/** Looks until the page shows it. */
async function untilTiles(url: string, isIt: (tiles: Tile[]) => boolean): Promise<Tile[]> {
  for (;;) {
    const tiles = await tilesOf(url);
    if (isIt(tiles)) return tiles;
  }
}

async function press(url: string, what: string): Promise<{ status: number; body: string }> {
  const headers = { authorization: `Bearer ${key}` };
  const answer = await fetch(new URL(`/api/do/${what}`, url), { method: "POST", headers });
  return { status: answer.status, body: await answer.text() };
}

Deno.test("dashboard shows the servers; its key comes from the environment, and a short one is refused", async () => {
  await using server = await startTiny();
  const args = ["dashboard", "-s", server.url, "--listen", "0"];
  await withPage(args, async (url) => {
    const state = await (await fetch(new URL("/api/state", url))).json();
    assert.deepEqual(state.servers.map(({ url }: { url: string }) => url), [server.url]);
    const about = await (await fetch(new URL("/api/about", url))).json();
    // Who could drain for all is not there.
    assert.deepEqual(about.actions, ["pause", "resume"]);
    assert.match(about.explained, /no Drain here/);
    assert.ok(!JSON.stringify([state, about]).includes(key));
    assert.equal((await press(url, "pause")).status, 200);
    assert.equal(server.stats.paused, true);
    assert.equal((await press(url, "resume")).status, 200);
    assert.equal(server.stats.paused, false);
    assert.equal((await press(url, `drain?server=${server.url}`)).status, 404);
  }, env);
  const short = await run(args, { env: { SGLANG_RL_DASHBOARD_KEY: "short" } });
  assert.equal(short.code, exitCodes.usage);
  assert.match(short.err, /at least 16/);
});

Deno.test("dashboard starts while servers are down, shows them so, and takes them in when they come", async () => {
  await using up = await startTiny({ version: "0.5.23" });
  const port = freePort();
  const down = `http://127.0.0.1:${port}`;
  await withPage(["dashboard", "-s", `${up.url},${down}`, "--listen", "0"], async (url) => {
    const shown = await untilTiles(url, (tiles) => tiles.every(({ answers }) => answers !== null));
    assert.deepEqual(shown.map(({ url, answers }) => [url, answers]), [[up.url, true], [
      down,
      false,
    ]]);
    assert.match(shown[1]!.reason!, /Nobody answers|refused|reach/i);
    const { status, body } = await press(url, "pause");
    assert.equal(status, 409);
    assert.match(body, /1 of 2 servers were not paused/);
    {
      await using _late = await startTiny({ port, version: "0.5.23" });
      // The pause did not reach it, so it is not shown as paused.
      const [, late] = await untilTiles(
        url,
        ([, tile]) => tile?.answers === true && !tile.isPaused,
      );
      assert.equal(late!.weightVersion, "default");
      assert.equal((await press(url, "pause")).status, 200);
      await untilTiles(url, (tiles) => tiles.every(({ isPaused }) => isPaused));
    }
    await untilTiles(url, ([, tile]) => tile?.answers === false);
    const { events } = await (await fetch(new URL("/api/state", url))).json();
    const told = events.map(({ text }: { text: string }) => text).join("\n");
    assert.match(
      told,
      new RegExp(`${down}: new → down .*${down}: down → serving .*${down}: serving → down`, "s"),
    );
  }, env);
  // Also when none of them is there yet.
  await withPage(["dashboard", "-s", down, "--listen", "0"], async (url) => {
    await untilTiles(url, ([tile]) => tile?.answers === false);
  });
});

Deno.test("the page's Drain goes by the control endpoint of the serve that has the servers", async () => {
  await using a = await startTiny();
  await using b = await startTiny();
  const fleet = new FakeFleet([a.url, b.url]);
  await using supervisor = FleetSupervisor.start(fleet, {
    clock: new FakeClock(),
    probe: () => Promise.resolve({ weightVersion: "7" }),
  });
  await using control = FleetControl.start(supervisor, { key: "the-key-of-the-servers" });
  const args = ["dashboard", "--control", control.url, "--listen", "0"];
  const keys = { ...env, SGLANG_ADMIN_API_KEY: "the-key-of-the-servers" };
  for (const servers of [[], ["-s", `${a.url},${b.url}`]]) {
    await withPage([...args, ...servers], async (url) => {
      const about = await (await fetch(new URL("/api/about", url))).json();
      assert.deepEqual(about.actions, ["pause", "resume", "drain", "undrain"]);
      assert.ok(about.explained.includes(control.url));
      assert.deepEqual((await tilesOf(url)).map(({ state }) => state), ["healthy", "healthy"]);
      assert.equal((await press(url, `drain?server=${a.url}`)).status, 200);
      assert.deepEqual(fleet.serving, [b.url], "the fleet itself has drained it");
      assert.deepEqual((await tilesOf(url)).map(({ state }) => state), ["drained", "healthy"]);
      const last = await press(url, `drain?server=${b.url}`);
      assert.deepEqual([last.status, /last server/.test(last.body)], [409, true]);
      assert.equal((await press(url, `undrain?server=${a.url}`)).status, 200);
      assert.equal(supervisor.servers.find(({ url }) => url === a.url)!.isDrained, false);
      await fleet.addWorker(a.url);
    }, keys);
  }
  const wrong = await run(args, { env });
  assert.equal(wrong.code === exitCodes.ok, false);
  assert.match(wrong.err, /401/);
});

Deno.test("without a serve Drain goes by the router, and says so", async () => {
  await using a = await startTiny();
  await using b = await startTiny();
  let listed = [a.url, b.url];
  await using router = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      const { pathname } = new URL(request.url);
      if (request.method === "POST") {
        listed.push((await request.json()).url);
        return Response.json({ worker_id: "new" }, { status: 202 });
      }
      if (request.method === "DELETE") {
        const id = decodeURIComponent(pathname.slice("/workers/".length));
        listed = listed.filter((url) => url !== id);
        return new Response(null, { status: 202 });
      }
      return Response.json({ workers: listed.map((url) => ({ id: url, url, is_healthy: true })) });
    },
  );
  const address = `http://127.0.0.1:${router.addr.port}`;
  await withPage(["dashboard", "-r", address, "--listen", "0"], async (url) => {
    const about = await (await fetch(new URL("/api/about", url))).json();
    assert.ok(about.explained.includes(address));
    assert.equal((await press(url, `drain?server=${a.url}`)).status, 200);
    assert.deepEqual(listed, [b.url]);
    assert.equal((await tilesOf(url))[0]!.state, "drained");
    assert.equal((await press(url, `drain?server=${b.url}`)).status, 409);
    assert.equal((await press(url, `undrain?server=${a.url}`)).status, 200);
    assert.deepEqual(listed, [b.url, a.url]);
    assert.equal((await tilesOf(url))[0]!.state, null);
  }, env);
});

Deno.test("view serves other hosts with a key from the environment only, and tells broken rows", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, 3, ["{broken"]);
  const args = (listen: string) => ["view", path, "--listen", listen, "--key-env", "OWN"];
  const { code, err } = await run(args("0.0.0.0:0"));
  assert.equal(code, exitCodes.usage);
  assert.match(err, /set \$OWN to a key of at least 16 characters/);
  assert.match((await run(args("0.0.0.0:0"), { env: { OWN: "short" } })).err, /at least 16/);
  const OWN = "a-key-of-the-dashboard";
  // Past the key, which tests/browser uses; only Deno's permission to listen there is missing here.
  const listening = await run(args("0.0.0.0:0"), { env: { OWN } });
  assert.match(listening.err, /--allow-net=0\.0\.0\.0:0/);
  await withPage(args("0"), async (url) => {
    const { total } = await (await fetch(new URL("/api/rows", url))).json();
    assert.equal(total, 13);
  }, { OWN });
});

Deno.test("a server that is named twice is shown once", async () => {
  await using server = await startTiny();
  const { port } = new URL(server.url);
  const args = ["-s", `${server.url}/`, "-s", `HTTP://127.0.0.1:${port},${server.url}`];
  const { out } = await run(["metrics", ...args]);
  assert.equal([...out.matchAll(/^sglang_rl_server_up\{/gm)].length, 1);
  const status = await run(["status", "--json", ...args]);
  assert.equal(status.out.split(server.url).length - 1, 1);
});

Deno.test("plot draws the mean reward as SVG, to the output or to a file", async () => {
  await using folder = await temporaryFolder();
  await writeRows(`${folder.path}/rows.jsonl`, 8);
  const { code, out } = await run(["plot", `${folder.path}/rows.jsonl`, "--every", "4"]);
  assert.equal(code, exitCodes.ok);
  assert.match(out, /^<svg [^]*<polyline[^]*<\/svg>\n$/);
  const file = `${folder.path}/reward.svg`;
  await run(["plot", `${folder.path}/rows.jsonl`, "--every", "4", "--out", file]);
  assert.equal(await Deno.readTextFile(file), out);
  await run(["plot", `${folder.path}/rows.jsonl`, "--out", `${folder.path}/reward.png`]);
  const png = await Deno.readFile(`${folder.path}/reward.png`);
  assert.deepEqual([...png.subarray(1, 4)], [..."PNG"].map((letter) => letter.charCodeAt(0)));
  const wrong = await run(["plot", `${folder.path}/rows.jsonl`, "--out", `${folder.path}/a.jpg`]);
  assert.equal(wrong.code, exitCodes.usage);
  assert.match(wrong.err, /neither \.svg nor \.png/);
});

/** The curves of an SVG, by the number of their points. */
function curvesIn(svg: string): number[] {
  return [...svg.matchAll(/<polyline [^>]*stroke-width="1.5"[^>]*points="([^"]*)"/g)]
    .map(([, points]) => points!.split(" ").length);
}

Deno.test("plot counts the last try of a dialog only, leaves broken rows out and says so", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, 0, [
    rowLine({ dialog: 0, reward: 500, done: false }),
    rowLine({ dialog: 1, reward: 1 }),
    "{broken",
    rowLine({ dialog: 0, attempt: 1, reward: 3 }),
  ]);
  const { out, err } = await run(["plot", path, "--every", "1"]);
  assert.match(err, /1 row left out/);
  assert.deepEqual(curvesIn(out), [2]);
  assert.doesNotMatch(out, />500</);
});

Deno.test("plot draws the mismatch beside the trainer's log-probabilities of the same rows", async () => {
  await using folder = await temporaryFolder();
  const [path, trained] = [`${folder.path}/rows.jsonl`, `${folder.path}/trained.jsonl`];
  const rows = (shift: number) =>
    Array.from(
      { length: 8 },
      (_, dialog) => rowLine({ dialog, log_probs: [-1 + shift, -2 - shift * dialog] }),
    );
  await writeRows(path, 0, rows(0));
  await writeRows(trained, 0, rows(0.1));
  const { code, out } = await run(["plot", path, "--every", "2", "--trained", trained]);
  assert.equal(code, exitCodes.ok);
  assert.deepEqual(curvesIn(out), [4, 4]);
  assert.match(out, /mismatch \(k3\)/);
  await writeRows(trained, 0, rows(0.1).slice(1));
  const { err } = await run(["plot", path, "--trained", trained]);
  assert.match(err, /must have the rows of .*, 8, not 7/);
});

Deno.test("plot draws the numbers of a run that a sink wrote", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/run.jsonl`;
  {
    await using sink = await jsonLinesSink(path);
    for (let step = 0; step < 9; step++) {
      await sink.log(step, { reward: step / 10, mismatch_k3: 0.001 * step, other: 1 });
    }
  }
  const all = await run(["plot", path]);
  assert.deepEqual(curvesIn(all.out), [9, 9, 9]);
  const some = await run(["plot", path, "--only", "mismatch_k3,reward", "--every", "3"]);
  assert.deepEqual(curvesIn(some.out), [3, 3]);
  // The last mean is of what is left.
  const rest = await run(["plot", path, "--every", "4"]);
  assert.deepEqual(curvesIn(rest.out), [3, 3, 3]);
  const none = await run(["plot", path, "--only", "kl"]);
  assert.equal(none.code, exitCodes.usage);
  assert.match(none.err, /no number "kl"/);
});

Deno.test("plot says when a file has nothing to draw", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  for (const text of ["", "\n", rowLine({ reward: 7 }).replace('"reward":7', '"reward":1e999')]) {
    await Deno.writeTextFile(path, text);
    const { code, err, out } = await run(["plot", path]);
    assert.deepEqual([code, out], [exitCodes.usage, ""]);
    assert.match(err, /has nothing to draw/);
  }
});

Deno.test("plot tells points that are no numbers, and never says of readable rows that they are not", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  const infinite = rowLine({ dialog: 1, reward: 7 }).replace('"reward":7', '"reward":1e999');
  await Deno.writeTextFile(path, infinite.trim() + "\n{}\n");
  const none = await run(["plot", path]);
  assert.equal(none.code, exitCodes.usage);
  assert.match(none.err, /1 row left out[^]*nothing to draw: each point is NaN or infinite/);
  await Deno.writeTextFile(path, infinite.trim() + "\n" + rowLine({ dialog: 2, reward: 7 }));
  const some = await run(["plot", path, "--every", "1"]);
  assert.equal(some.code, exitCodes.ok);
  assert.match(some.err, /^1 point left out: NaN or infinite$/m);
});
