import assert from "node:assert/strict";
import process from "node:process";
import OpenAI from "openai";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutRow } from "../../../src/collector/mod.ts";
import { agentCommand, agentEnvironment } from "../../../src/gateway/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { type Setup, setup } from "./_support.ts";

/** Arguments with which this runtime runs a piece of a program. */
function evaluating(code: string): readonly string[] {
  if (process.versions.deno) return ["eval", code];
  return process.versions.bun ? ["-e", code] : ["--input-type=module", "-e", code];
}

function trial(): Promise<Setup> {
  // Greedy: what is sampled at random may hold a special token, after which a branch begins.
  return setup({ policy: { generateKwargs: { maxNewTokens: 6, temperature: 0 } } });
}

async function collect(
  { policy }: Setup,
  pool: EnvironmentPool,
): Promise<readonly RolloutRow[]> {
  await using collector = new LLMCollector(pool, {
    policy,
    dialogTurnsPerBatch: 1,
    yieldCompletedTrajectories: true,
    trackPolicyVersion: true,
    totalDialogTurns: 12,
    dialogRetries: 2,
    // The pause before a retry is none, so that others do not come to the end of the turns first.
    clock: new FakeClock({ skipUpToMs: 5_000 }),
  });
  const rows: RolloutRow[] = [];
  for await (const batch of collector) rows.push(...batch.rows);
  return rows;
}

Deno.test("an agent is an environment: its sessions are dialogs, with its rewards and versions", async () => {
  await using it = await trial();
  let failures = 0;
  const pool = new EnvironmentPool(
    () =>
      agentEnvironment(it.gateway, async ({ baseUrl, apiKey, dialog, attempt, signal }) => {
        const client = new OpenAI({ baseURL: baseUrl, apiKey, maxRetries: 0 });
        const messages: OpenAI.Chat.ChatCompletionMessageParam[] = [];
        for (const content of ["Hello", "More"]) {
          messages.push({ role: "user", content });
          const answer = await client.chat.completions.create({ model: "m", messages }, { signal });
          messages.push(answer.choices[0]!.message);
          if (dialog === 1 && attempt === 0) {
            failures++;
            throw new Error("the agent fell");
          }
        }
        return { reward: 0.5, info: { agent: "hello" } };
      }, { grade: (rows) => rows.length }),
    { size: 2 },
  );
  const rows = await collect(it, pool);
  assert.equal(failures, 1);
  assert.ok(rows.length >= 12);
  for (const row of rows) {
    assert.equal(row.reward, row.turn === 1 ? 2.5 : 0);
    assert.deepEqual([row.done, row.branch, row.info.agent], [row.turn === 1, 0, "hello"]);
    assert.deepEqual([...row.tokenVersions!], Array.from(row.responseIds, () => 0));
  }
  const dialogs = Map.groupBy(rows, ({ dialog }) => dialog);
  for (const turns of dialogs.values()) assert.deepEqual(turns.map(({ turn }) => turn), [0, 1]);
  assert.equal(dialogs.get(1)?.[0]?.attempt, 1);
  assert.equal(it.gateway.stats.sessions, 0);
});

Deno.test("a program is an agent: it finds its key in its variables, and prints its reward", async () => {
  await using it = await trial();
  const code = `
    const { OPENAI_BASE_URL, OPENAI_API_KEY, SGLANG_RL_DIALOG } = process.env;
    const response = await fetch(OPENAI_BASE_URL + "/chat/completions", {
      method: "POST",
      headers: { authorization: "Bearer " + OPENAI_API_KEY },
      body: JSON.stringify({ model: "m", messages: [{ role: "user", content: "Hi" }] }),
    });
    await response.json();
    if (SGLANG_RL_DIALOG === "7") { console.error("seven is unlucky"); process.exit(3); }
    console.log("done"); console.log(JSON.stringify({ reward: Number(SGLANG_RL_DIALOG) }));
  `;
  const run = agentCommand(process.execPath, {
    args: evaluating(code),
    env: { DENO_NO_UPDATE_CHECK: "1" },
  });
  const environment = agentEnvironment(it.gateway, run);
  const signal = new AbortController().signal;
  const numbers = { attempt: 0, group: 0, member: 0, environment: 0, maxTurns: 9, versions: null };
  const rows = await environment.episode!({ dialog: 3, ...numbers, signal });
  assert.deepEqual(rows.map(({ dialog, reward, done }) => [dialog, reward, done]), [[3, 3, true]]);
  await assert.rejects(
    environment.episode!({ dialog: 7, ...numbers, signal }),
    /ended with code 3: seven is unlucky/,
  );
  assert.equal(it.gateway.stats.sessions, 0);
});

Deno.test("what an agent started elsewhere is cleaned up, however its run ended", async () => {
  await using it = await trial();
  const folder = await Deno.makeTempDir();
  try {
    const env = { DENO_NO_UPDATE_CHECK: "1" };
    const numbers = { group: 0, member: 0, environment: 0, maxTurns: 9, versions: null };
    const cases: readonly (readonly [code: string, wrong: RegExp])[] = [
      ["", /asked nothing/],
      ["process.exit(4)", /ended with code 4/],
      ["setInterval(() => {}, 1000)", /agent of dialog 2/],
    ];
    for (const [dialog, [code, wrong]] of cases.entries()) {
      const stopping = new AbortController();
      const run = agentCommand(process.execPath, {
        args: evaluating(code),
        env,
        cleanUp: ({ dialog }) => [
          process.execPath,
          ...evaluating(
            `(await import("node:fs")).writeFileSync(${JSON.stringify(`${folder}/${dialog}`)}, "")`,
          ),
        ],
      });
      const task = { dialog, attempt: 0, ...numbers, signal: stopping.signal };
      const episode = agentEnvironment(it.gateway, run).episode!(task);
      if (dialog === 2) queueMicrotask(() => stopping.abort());
      await assert.rejects(episode, wrong);
      await Deno.stat(`${folder}/${dialog}`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("an agent that hangs is ended with its process, and its session too", async () => {
  await using it = await trial();
  const stopping = new AbortController();
  const run = agentCommand(process.execPath, { args: evaluating("setInterval(() => {}, 1000)") });
  const environment = agentEnvironment(it.gateway, run);
  const episode = environment.episode!({
    dialog: 0,
    attempt: 0,
    group: 0,
    member: 0,
    environment: 0,
    maxTurns: 9,
    versions: null,
    signal: stopping.signal,
  });
  queueMicrotask(() => stopping.abort());
  await assert.rejects(episode, /agent of dialog 0/);
  assert.equal(it.gateway.stats.sessions, 0);
});
