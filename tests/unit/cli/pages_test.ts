import assert from "node:assert/strict";
import { exitCodes } from "../../../src/cli/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { writeRows } from "../dashboard/_rows.ts";
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

Deno.test("plot draws the mean reward as SVG, to the output or to a file", async () => {
  await using folder = await temporaryFolder();
  await writeRows(`${folder.path}/rows.jsonl`, 8);
  const { code, out } = await run(["plot", `${folder.path}/rows.jsonl`, "--every", "4"]);
  assert.equal(code, exitCodes.ok);
  assert.match(out, /^<svg [^]*<polyline[^]*<\/svg>\n$/);
  const file = `${folder.path}/reward.svg`;
  await run(["plot", `${folder.path}/rows.jsonl`, "--every", "4", "--out", file]);
  assert.equal(await Deno.readTextFile(file), out);
});
