import assert from "node:assert/strict";
import { exitCodes } from "../../../src/cli/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
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

Deno.test("dashboard shows the servers; its key comes from the environment, and a short one is refused", async () => {
  await using server = await startTiny();
  const args = ["dashboard", "-s", server.url, "--listen", "0"];
  const env = { SGLANG_RL_DASHBOARD_KEY: "a-key-of-the-dashboard" };
  await withPage(args, async (url) => {
    const state = await (await fetch(new URL("/api/state", url))).json();
    assert.deepEqual(state.servers.map(({ url }: { url: string }) => url), [server.url]);
    const about = await (await fetch(new URL("/api/about", url))).json();
    assert.deepEqual(about.actions.sort(), ["drain", "pause", "resume"]);
    assert.ok(!JSON.stringify([state, about]).includes(env.SGLANG_RL_DASHBOARD_KEY));
  }, env);
  const short = await run(args, { env: { SGLANG_RL_DASHBOARD_KEY: "short" } });
  assert.equal(short.code, exitCodes.usage);
  assert.match(short.err, /at least 16/);
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
  const none = await run(["plot", path, "--only", "kl"]);
  assert.equal(none.code, exitCodes.usage);
  assert.match(none.err, /no number "kl"/);
});
