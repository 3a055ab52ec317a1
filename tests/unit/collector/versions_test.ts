import assert from "node:assert/strict";
import fc from "fast-check";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import {
  LLMCollector,
  type OnStale,
  type PolicySample,
  PolicyVersion,
} from "../../../src/collector/mod.ts";
import { tokenVersions } from "../../../src/collector/token_versions.ts";
import { collect, countingEnvironment, fakePolicy, sampleOf } from "./_fakes.ts";

function tagsOf(
  history: PolicyVersion,
  stampedIndex: number,
  more: Partial<PolicySample>,
): [number[], boolean] {
  const { versions, exact } = tokenVersions(sampleOf([5, 6, 7], more), { stampedIndex, history });
  return [[...versions], exact];
}

Deno.test("a server that answers with new weights before the sync reports announces the version", () => {
  const history = new PolicyVersion("int");
  history.begin(["default"]);
  history.announce("1");
  assert.deepEqual(tagsOf(history, 0, { weightVersion: "1" }), [[0, 0, 0], false]);
  const spans = [{ version: "1", start: 0, end: 3 }];
  assert.deepEqual(tagsOf(history, 0, { weightVersions: spans }), [[1, 1, 1], true]);
  assert.equal(history.current, 0);
  assert.equal(history.increment("1"), 1);
  assert.deepEqual(tagsOf(history, 1, { weightVersions: spans }), [[1, 1, 1], true]);
  assert.equal(history.names.length, 2);
});

Deno.test("where syncs abort all requests, the name at the end is that of all tokens", () => {
  const history = new PolicyVersion("int");
  history.begin(["a"]);
  history.expectPauseMode("abort");
  history.announce("b");
  assert.deepEqual(tagsOf(history, 0, { weightVersion: "a" }), [[0, 0, 0], true]);
  assert.deepEqual(tagsOf(history, 0, { weightVersion: "b" }), [[1, 1, 1], true]);
  assert.equal(history.increment("b"), 1);
  history.expectPauseMode("in_place");
  assert.deepEqual(tagsOf(history, 0, { weightVersion: "b" }), [[0, 0, 0], false]);
});

Deno.test("servers whose name for their weights never changes date by the collector's version", () => {
  const history = new PolicyVersion("int");
  const more = { weightVersion: "default" };
  assert.deepEqual(tagsOf(history, 0, more), [[0, 0, 0], true]);
  history.increment();
  history.increment();
  assert.deepEqual(tagsOf(history, 2, more), [[2, 2, 2], true]);
});

Deno.test("a call that a sync may have cut has its oldest version and says that it is not exact", () => {
  const history = new PolicyVersion("int");
  history.increment();
  assert.deepEqual(tagsOf(history, 0, {}), [[0, 0, 0], false]);
  assert.deepEqual(tagsOf(history, 1, {}), [[1, 1, 1], true]);
});

Deno.test("tokens without a span have the version at the call's beginning, which is not exact", () => {
  const history = new PolicyVersion("int");
  history.begin(["a"]);
  history.increment("b");
  const weightVersions = [
    { version: "a", start: 0, end: 1 },
    { version: "b", start: 2, end: 3 },
  ];
  assert.deepEqual(tagsOf(history, 0, { weightVersions }), [[0, 0, 1], false]);
});

/** A name that a server says, as spans and as the name at the end. */
const said = (version: string): Partial<PolicySample>[] => [
  { weightVersion: version },
  { weightVersion: version, weightVersions: [{ version, start: 0, end: 3 }] },
];

Deno.test("a server with older weights dates its tokens to them, however new the call is", () => {
  const history = new PolicyVersion("int");
  history.expectPauseMode("abort");
  history.begin(["default"]);
  for (const name of ["1", "2", "3"]) history.increment(name);
  for (const [name, index] of [["default", 0], ["1", 1], ["2", 2], ["3", 3]] as const) {
    for (const sample of said(name)) {
      assert.deepEqual(tagsOf(history, 3, sample), [[index, index, index], true]);
    }
  }
});

Deno.test("a name that nobody gave is unknown, never exact and never a version to come", () => {
  const names = ["base", "4", "incomplete:4", "updating:owner:4"];
  const history = new PolicyVersion("int");
  history.begin(["default"]);
  history.increment("3");
  for (const name of names) {
    for (const sample of said(name)) {
      assert.deepEqual(tagsOf(history, 1, sample), [[-1, -1, -1], false], name);
    }
  }
  assert.equal(history.increment("4"), 2);
  assert.equal(history.names.length, 3);
  assert.deepEqual(tagsOf(history, 1, said("3")[1]!), [[1, 1, 1], true]);
});

Deno.test("a server that tells no name is unknown once another told one", () => {
  const history = new PolicyVersion("int");
  history.begin(["a"]);
  history.increment("b");
  // Nobody was heard yet: time is all there is.
  assert.deepEqual(tagsOf(history, 1, {}), [[1, 1, 1], true]);
  for (const more of said("b")) assert.deepEqual(tagsOf(history, 1, more), [[1, 1, 1], true]);
  assert.deepEqual(tagsOf(history, 1, {}), [[-1, -1, -1], false]);
});

Deno.test("the marks of a sync never stand for weights, not even when nothing else is known", () => {
  for (const name of ["incomplete:1", "updating:owner:1"]) {
    const history = new PolicyVersion("int");
    history.begin([name]);
    assert.deepEqual(tagsOf(history, 0, { weightVersion: name }), [[-1, -1, -1], false]);
    history.announce(name);
    assert.deepEqual(tagsOf(history, 0, { weightVersion: name }), [[-1, -1, -1], false]);
  }
});

Deno.test("a fleet in two versions at the start is two versions, the older first", () => {
  for (
    const [names, order] of [
      [["step-5", "default"], ["default", "step-5"]],
      [["default", "step-5", "default"], ["default", "step-5"]],
      [["12", "9"], ["9", "12"]],
      [["b", "a"], ["b", "a"]],
      [["incomplete:7", "6"], ["6"]],
    ] as const
  ) {
    const history = new PolicyVersion("int");
    history.begin(names);
    assert.deepEqual(history.history.map((entry) => entry.weightVersion), order);
    assert.equal(history.currentIndex, order.length - 1);
    for (const [index, name] of order.entries()) {
      assert.deepEqual(tagsOf(history, history.currentIndex, said(name)[1]!), [
        [index, index, index],
        true,
      ]);
    }
  }
});

Deno.test("a version of a failed sync that a server has all the same is its own, older than the next", () => {
  const history = new PolicyVersion("int");
  history.begin(["3"]);
  history.announce("4");
  assert.deepEqual(tagsOf(history, 0, said("4")[1]!), [[1, 1, 1], true]);
  history.announce("5");
  history.increment("5");
  assert.deepEqual(tagsOf(history, 2, said("4")[1]!), [[1, 1, 1], true]);
  assert.deepEqual(tagsOf(history, 2, said("5")[1]!), [[2, 2, 2], true]);
  // What was announced and never seen is nobody's any more.
  history.announce("6");
  history.announce("7");
  assert.deepEqual(tagsOf(history, 2, said("7")[1]!), [[3, 3, 3], true]);
  assert.deepEqual(tagsOf(history, 2, said("6")[1]!), [[-1, -1, -1], false]);
});

Deno.test("a name that is used again tells only since when: what it may be is not exact", () => {
  const history = new PolicyVersion("int");
  history.begin(["a"]);
  history.increment("b");
  history.increment("a");
  assert.deepEqual(tagsOf(history, 2, said("a")[1]!), [[2, 2, 2], true]);
  assert.deepEqual(tagsOf(history, 1, said("a")[1]!), [[1, 1, 1], false]);
});

Deno.test("however syncs and answers follow each other, every token has the version of its sync", () => {
  fc.assert(fc.property(
    fc.array(fc.constantFrom("sync", "lateSync", "answer"), { maxLength: 40 }),
    (events) => {
      const history = new PolicyVersion("int");
      history.begin(["w0"]);
      let served = 0;
      let reported = 0;
      const report = () => {
        while (reported < served) history.increment(`w${++reported}`);
      };
      for (const event of events) {
        if (event === "answer") {
          const from = Math.max(reported, served - 1);
          const weightVersions = [
            { version: `w${from}`, start: 0, end: 1 },
            { version: `w${served}`, start: 1, end: 3 },
          ];
          assert.deepEqual(
            tagsOf(history, reported, { weightVersions }),
            [[from, served, served], true],
          );
          continue;
        }
        // A late sync has resumed the servers, but its report comes with the next event.
        report();
        history.announce(`w${served + 1}`);
        served++;
        if (event === "sync") report();
      }
      report();
      assert.equal(history.currentIndex, served);
      assert.deepEqual(
        history.history.map((entry) => entry.weightVersion),
        Array.from({ length: served + 1 }, (_, i) => `w${i}`),
      );
    },
  ));
});

/** Ten dialogs, where a sync comes after the fourth call of the policy. */
async function collectAcrossSync(onStale: OnStale, mode: "steps" | "trajectories") {
  await using collector: LLMCollector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 1 }),
    {
      policy: fakePolicy(function () {
        if (++calls === 4) {
          collector.incrementVersion();
          collector.incrementVersion();
        }
      }),
      dialogTurnsPerBatch: 5,
      totalDialogs: 10,
      yieldCompletedTrajectories: mode === "trajectories",
      maxStaleness: 1,
      onStale,
    },
  );
  let calls = 0;
  const batches = await collect(collector);
  const rows = batches.flatMap((batch) =>
    batch.rows.map((row) => ({
      dialog: row.dialog,
      attempt: row.attempt,
      version: row.tokenVersions?.[0],
      stale: batch.isStale(row),
    }))
  );
  return { rows, stats: collector.stats };
}

Deno.test("rows beyond the staleness bound are dropped and counted", async () => {
  for (const mode of ["steps", "trajectories"] as const) {
    const { rows, stats } = await collectAcrossSync("drop", mode);
    assert.deepEqual(rows.map((row) => row.dialog), [4, 5, 6, 7, 8, 9]);
    assert.ok(rows.every((row) => row.version === 2 && !row.stale));
    assert.equal(stats.staleDropped, 4);
  }
});

Deno.test("dialogs beyond the bound are run again with retry, so none is missing", async () => {
  const { rows, stats } = await collectAcrossSync("retry", "trajectories");
  assert.deepEqual(
    rows.map((row) => row.dialog).toSorted((a, b) => a - b),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  assert.ok(rows.every((row) => row.version === 2));
  assert.ok(rows.every((row) => row.attempt === (row.dialog < 4 ? 1 : 0)));
  assert.deepEqual([stats.retries, stats.staleDropped, stats.dialogsCompleted], [4, 0, 10]);
});

Deno.test("rows beyond the bound are kept and marked with keep", async () => {
  const { rows, stats } = await collectAcrossSync("keep", "steps");
  assert.equal(rows.length, 10);
  assert.deepEqual(rows.filter((row) => row.stale).map((row) => row.dialog), [0, 1, 2, 3]);
  assert.equal(stats.staleKept, 4);
});

Deno.test("the servers' version at the start is the first one, whatever its name", async () => {
  const policy = {
    call: () =>
      Promise.resolve(sampleOf([1], {
        weightVersion: "step-41",
        weightVersions: [{ version: "step-41", start: 0, end: 1 }],
      })),
    weightVersions: () => Promise.resolve(["step-40", "step-40"]),
  };
  await using collector = new LLMCollector(countingEnvironment(1), {
    policy,
    dialogTurnsPerBatch: 1,
    trackPolicyVersion: true,
  });
  // The servers went on between the collector's question and its first row.
  collector.announceVersion("step-41");
  const row = (await collector.rollout())?.rows[0];
  assert.deepEqual([...row?.tokenVersions ?? []], [1]);
  collector.incrementVersion("step-41");
  assert.equal(collector.policyVersion, 1);
});
