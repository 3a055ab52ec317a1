/** Syncs of other programs, of which the engine hears only when it asks its servers. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { objectionToLaggard } from "../../../src/engine/objections.ts";
import { TestFleet } from "./_fleet.ts";

/** Another program gives a server weights of this name. */
async function give(url: string, version: string): Promise<void> {
  const answer = await fetch(`${url}/update_weight_version`, {
    method: "POST",
    body: JSON.stringify({ new_version: version, abort_all_requests: false }),
  });
  await answer.text();
}

async function heldBy(url: string): Promise<string> {
  return (await (await fetch(`${url}/model_info`)).json()).weight_version;
}

function start(count: number): Promise<TestFleet> {
  return TestFleet.start(count, { membershipMs: 0 });
}

Deno.test("a server that died right after another program's sync does not join with what it had before", async () => {
  await using fleet = await start(2);
  const { engine } = fleet;
  const [one, two] = fleet.servers.map(({ url }) => url) as [string, string];
  await engine.removeWorker(two);
  await give(one, "step-1");
  // Nobody has looked since: the engine still believes that the other one holds "default".
  const worker = await engine.addWorker(two);
  assert.deepEqual([worker.state, worker.reason], [
    "quarantined",
    'its weights are "default", the others\' "step-1"',
  ]);
  await give(two, "step-1");
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "serving"]);
});

Deno.test("a mark is no version to compare with: who comes back waits until the sync is over", async () => {
  for (const mark of ["updating:other~1:step-1", "incomplete:step-1"]) {
    await using fleet = await start(2);
    const { engine } = fleet;
    const [one, two] = fleet.servers.map(({ url }) => url) as [string, string];
    await engine.removeWorker(two);
    await give(one, mark);
    const worker = await engine.addWorker(two);
    assert.equal(worker.state, "quarantined", mark);
    assert.match(worker.reason, /the other servers/);
    // Not even where it bears the same mark.
    await give(two, mark);
    await engine.refreshWorkers();
    assert.ok(fleet.states.every((state) => state === "quarantined"), `${mark}: ${fleet.states}`);
    for (const url of [one, two]) await give(url, "step-1");
    await engine.refreshWorkers();
    assert.deepEqual(fleet.states, ["serving", "serving"], mark);
  }
});

Deno.test("whom another program's sync left out gets no requests until it is synced too", async () => {
  await using fleet = await start(3);
  const { engine } = fleet;
  const urls = fleet.servers.map(({ url }) => url) as [string, string, string];
  for (const url of urls) await give(url, "step-0");
  await engine.refreshWorkers();
  await give(urls[0], "step-1");
  await engine.refreshWorkers();
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "quarantined", "quarantined"]);
  assert.match(engine.workers[1]!.reason, /"step-0", .*others.*"step-1"/);
  for (const url of urls.slice(1)) await give(url, "step-1");
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "serving", "serving"]);
  // Back again: names that return are current, not left.
  for (const url of urls) await give(url, "step-0");
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "serving", "serving"]);
});

Deno.test("of two versions at the start the one that is older by its name gets no requests", async () => {
  const cases = [
    { given: ["default", "step-5"], states: ["quarantined", "serving"] },
    { given: ["step-10", "step-9"], states: ["serving", "quarantined"] },
    { given: ["7", "12"], states: ["quarantined", "serving"] },
    // Nobody can tell which of these is older.
    { given: ["base", "step-5"], states: ["serving", "serving"] },
    { given: ["a-1", "b-2"], states: ["serving", "serving"] },
  ];
  for (const { given, states } of cases) {
    await using fleet = await start(2);
    const urls = fleet.servers.map(({ url }) => url);
    // Nobody was seen to change: the engine meets them as they are.
    for (const [i, url] of urls.entries()) await give(url, given[i]!);
    await using engine = await AsyncSGLang.connect(urls, { membershipMs: 0, logger: fleet.logger });
    await engine.refreshWorkers();
    assert.deepEqual(engine.workers.map(({ state }) => state), states, given.join());
  }
});

Deno.test("of servers that got different weights at once the one older by its name waits", () => {
  const objection = (said: string, other: string, left: string[]) =>
    objectionToLaggard(said, [other], new Set(left));
  for (const left of [[], ["default"], ["step-1"]]) {
    assert.match(objection("step-2", "step-3", left) ?? "none", /older by their name/, `${left}`);
    assert.equal(objection("step-3", "step-2", left), undefined, `${left}`);
  }
  // Taken back: the smaller number is the newer one.
  assert.equal(objection("step-2", "step-3", ["step-3"]), undefined);
  assert.match(objection("step-3", "step-2", ["step-3"]) ?? "none", /others that had them/);
});

Deno.test("weights that are taken back on all but one server leave out that one", async () => {
  await using fleet = await start(3);
  const { engine } = fleet;
  const urls = fleet.servers.map(({ url }) => url) as [string, string, string];
  for (const url of urls) await give(url, "step-5");
  await engine.refreshWorkers();
  for (const url of urls.slice(0, 2)) await give(url, "step-4");
  await engine.refreshWorkers();
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "serving", "quarantined"]);
});

Deno.test("whatever others sync and whoever restarts, those that serve hold one version and no mark", async () => {
  const server = fc.nat(2);
  const event = fc.oneof(
    fc.record({
      kind: fc.constant("sync" as const),
      whom: fc.uniqueArray(server, { minLength: 1 }),
    }),
    fc.record({
      kind: fc.constant("mark" as const),
      whom: fc.uniqueArray(server, { minLength: 1 }),
    }),
    fc.record({ kind: fc.constant("restart" as const), whom: server.map((one) => [one]) }),
    fc.record({ kind: fc.constant("away" as const), whom: server.map((one) => [one]) }),
    fc.record({ kind: fc.constant("join" as const), whom: server.map((one) => [one]) }),
    fc.record({ kind: fc.constant("look" as const), whom: fc.constant([] as number[]) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(event, { minLength: 3, maxLength: 12 }), async (events) => {
      await using fleet = await start(3);
      const { engine, servers } = fleet;
      const urls = servers.map(({ url }) => url);
      for (const [step, { kind, whom }] of events.entries()) {
        const mark = step % 2 === 0 ? `updating:other~1:${step}` : `incomplete:${step}`;
        for (const one of whom) {
          const url = urls[one]!;
          if (kind === "sync") await give(url, `step-${step}`);
          if (kind === "mark") await give(url, mark);
          if (kind === "restart") await fleet.restart(one);
          if (kind === "away" && engine.workers.some((worker) => worker.url === url)) {
            // The last one stays.
            await engine.removeWorker(url).catch(() => {});
          }
          if (kind === "join") await engine.addWorker(url);
        }
        if (kind === "look") await engine.refreshWorkers();
      }
      // What the first look found out decides on those that were looked at before.
      await engine.refreshWorkers();
      await engine.refreshWorkers();
      const serving = engine.workers.filter(({ state }) => state === "serving");
      const held = new Set(await Promise.all(serving.map(({ url }) => heldBy(url))));
      assert.ok(held.size <= 1, `${[...held]} serve together`);
      for (const version of held) assert.doesNotMatch(version, /^(updating|incomplete):/);
    }),
    {
      numRuns: 100,
      examples: [[[
        { kind: "mark", whom: [1, 2, 0] },
        { kind: "look", whom: [] },
        { kind: "sync", whom: [0] },
        { kind: "sync", whom: [1] },
      ]]],
    },
  );
});
