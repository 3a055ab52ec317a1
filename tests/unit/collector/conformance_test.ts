import assert from "node:assert/strict";
import { ValidationError } from "../../../src/errors.ts";
import {
  type BatchSink,
  LLMCollector,
  PolicyVersion,
  ReplayBuffer,
} from "../../../src/collector/mod.ts";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import {
  collect,
  countingEnvironment,
  countingEnvironments,
  fakePolicy,
  sampleOf,
} from "./_fakes.ts";

// case 99

Deno.test("four environments give whole batches of (4, 1) up to the total", async () => {
  for (const [total, batches] of [[1, 1], [4, 1], [10, 3]] as const) {
    await using collector = new LLMCollector(countingEnvironments(4), {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 4,
      totalDialogTurns: total,
    });
    const shapes = (await collect(collector)).map((batch) => batch.shape);
    assert.deepEqual(shapes, Array.from({ length: batches }, () => [4, 1]));
    assert.equal(collector.stats.rowsYielded, 4 * batches);
  }
});

// case 100

Deno.test("with a replay buffer the reader gets null and the rows are in the buffer", async () => {
  const replayBuffer = new ReplayBuffer({ capacity: 50 });
  await using collector = new LLMCollector(countingEnvironments(4), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 4,
    totalDialogTurns: 10,
    replayBuffer,
  });
  assert.deepEqual(await collect(collector), [null, null, null]);
  assert.equal(replayBuffer.length, 12);
});

// case 101

Deno.test("eight turns of four environments are (4, 2), flattened (8)", async () => {
  for (const [flattenData, shape] of [[false, [4, 2]], [true, [8]]] as const) {
    await using collector = new LLMCollector(countingEnvironments(4), {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 8,
      totalDialogTurns: 8,
      flattenData,
    });
    const [batch] = await collect(collector);
    assert.deepEqual(batch?.shape, shape);
    // Environment by environment, and in each the turns in order.
    assert.deepEqual(batch?.rows.map((row) => [row.environment, row.turn]), [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
      [2, 0],
      [2, 1],
      [3, 0],
      [3, 1],
    ]);
  }
});

// case 102

Deno.test("after each turn the dialog is longer by the answer and what follows", async () => {
  await using collector = new LLMCollector(countingEnvironments(1), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 2,
    totalDialogTurns: 2,
  });
  const [batch] = await collect(collector);
  const roles = batch?.rows.map((row) =>
    [row.messages, row.nextMessages].map((messages) => messages.map((message) => message.role))
  );
  assert.deepEqual(roles, [
    [["user"], ["user", "assistant", "user"]],
    [["user", "assistant", "user"], ["user", "assistant", "user", "assistant", "user"]],
  ]);
});

// case 103

Deno.test("completed trajectories come whole, at least the asked number of turns", async () => {
  await using collector = new LLMCollector(countingEnvironments(4), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 4,
    totalDialogTurns: 12,
    maxTurns: 3,
    yieldCompletedTrajectories: true,
  });
  const batches = await collect(collector);
  assert.deepEqual(batches.map((batch) => batch.shape), [[6], [6]]);
  for (const trajectory of batches.flatMap((batch) => batch.trajectories())) {
    assert.deepEqual(trajectory.rows.map((row) => row.turn), [0, 1, 2]);
    assert.deepEqual(trajectory.rows.map((row) => row.done), [false, false, true]);
    assert.equal(trajectory.rows.at(-1)?.truncated, true);
  }
});

// case 104

Deno.test("only last steps give exactly the asked number, one for each dialog", async () => {
  await using collector = new LLMCollector(countingEnvironments(4), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 3,
    totalDialogTurns: 6,
    maxTurns: 3,
    yieldOnlyLastSteps: true,
  });
  const batches = await collect(collector);
  assert.deepEqual(batches.map((batch) => batch.shape), [[3], [3]]);
  const rows = batches.flatMap((batch) => batch.rows);
  assert.ok(rows.every((row) => row.done && row.turn === 2));
  assert.equal(new Set(rows.map((row) => row.dialog)).size, 6);
});

// case 105

Deno.test("options that exclude each other are refused with the reason", () => {
  const sink: BatchSink<null> = { accept: () => null };
  const last = { yieldOnlyLastSteps: true };
  const refusals: [object, RegExp][] = [
    [{ ...last, yieldCompletedTrajectories: false }, /yieldOnlyLastSteps needs completed/],
    [{ ...last, flattenData: true }, /leave flattenData out/],
    [{ ...last, resetAtEachIter: true }, /resetAtEachIter would cut/],
    [{ replayBuffer: sink, queue: sink }, /exclude each other/],
    [{ asyncEnvs: true }, /asyncEnvs needs an EnvironmentPool/],
    [{ dialogTurnsPerBatch: 0 }, /dialogTurnsPerBatch must be a whole number of at least 1/],
    [{ dialogTurnsPerBatch: undefined }, /dialogTurnsPerBatch .* not undefined/],
    [{ totalDialogTurns: 0 }, /totalDialogTurns .* or -1 for no end/],
    [
      { dialogTurnPerBatch: 4 },
      /Unknown option "dialogTurnPerBatch".*; did you mean "dialogTurnsPerBatch"/,
    ],
    [{ maxStaleness: 1, trackPolicyVersion: false }, /maxStaleness needs versions/],
    [{ maxStaleness: 1, onStale: "drop" }, /would leave holes/],
    [{ maxStaleness: -1 }, /maxStaleness must be/],
    [{ onDialogError: "ignore" }, /"throw" or "skip", not "ignore"/],
    [{ turnTimeoutMs: 0 }, /turnTimeoutMs must be above 0/],
  ];
  for (const [options, message] of refusals) {
    const full = { policy: fakePolicy(), dialogTurnsPerBatch: 4, ...options };
    assert.throws(() => new LLMCollector(countingEnvironments(1), full), (error) => {
      assert.ok(error instanceof ValidationError);
      assert.match(error.message, message);
      return true;
    });
  }
});

// case 105

Deno.test("resetAtEachIter and steps that are run again are refused for a pool", () => {
  const pool = new EnvironmentPool(() => countingEnvironment(), { size: 2 });
  const base = { policy: fakePolicy(), dialogTurnsPerBatch: 4 };
  assert.throws(
    () => new LLMCollector(pool, { ...base, resetAtEachIter: true }),
    /needs environments that go in step/,
  );
  assert.throws(
    () => new LLMCollector(pool, { ...base, maxStaleness: 1, onStale: "retry" }),
    /runs whole dialogs again/,
  );
});

// case 106

Deno.test("the policy is told its collector, and getPolicyModel gives the engine", () => {
  const engine = { name: "engine" };
  let told: object | undefined;
  const policy = {
    ...fakePolicy(),
    model: engine,
    registerCollector: (collector: object) => told = collector,
  };
  const collector = new LLMCollector(countingEnvironments(1), { policy, dialogTurnsPerBatch: 4 });
  assert.equal(told, collector);
  assert.equal(collector.getPolicyModel(), engine);
  assert.equal(collector.dialogTurnsPerBatch, 4);
  assert.equal(collector.totalDialogTurns, -1);
});

// case 107

Deno.test("integer versions count up and uuid versions are unique; others are refused", () => {
  const make = (trackPolicyVersion: boolean | "int" | "uuid") =>
    new LLMCollector(countingEnvironments(1), {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 1,
      trackPolicyVersion,
    });
  const counted = make(true);
  assert.equal(counted.policyVersion, 0);
  counted.incrementVersion();
  counted.incrementVersion("step-2");
  assert.equal(counted.getPolicyVersion(), 2);
  assert.deepEqual(counted.versionHistory, [
    { index: 0, version: 0, weightVersion: null },
    { index: 1, version: 1, weightVersion: null },
    { index: 2, version: 2, weightVersion: "step-2" },
  ]);

  const named = make("uuid");
  named.incrementVersion();
  named.incrementVersion();
  const names = named.versionHistory.map((entry) => entry.version);
  assert.equal(new Set(names).size, 3);
  assert.equal(named.policyVersion, names[2]);

  assert.throws(() => new PolicyVersion("date" as "int"), /use "int" or "uuid"/);
  assert.throws(() => make("date" as "int"), ValidationError);
});

// case 108

Deno.test("rows made after a sync carry its version at once, on every token", async () => {
  await using collector = new LLMCollector(countingEnvironments(4), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 4,
    totalDialogTurns: 12,
    trackPolicyVersion: true,
  });
  const seen: number[][] = [];
  for await (const batch of collector) {
    seen.push(batch.rows.flatMap((row) => [...row.tokenVersions ?? []]));
    collector.incrementVersion();
  }
  assert.deepEqual(seen, [0, 1, 2].map((version) => Array(8).fill(version)));
});

// case 108

Deno.test("a turn that spans a sync has the version of each token", async () => {
  const policy = {
    call: () =>
      Promise.resolve(sampleOf([1, 2, 3], {
        weightVersion: "step-1",
        weightVersions: [
          { version: "start", start: 0, end: 2 },
          { version: "step-1", start: 2, end: 3 },
        ],
      })),
    weightVersions: () => Promise.resolve(["start"]),
  };
  await using collector = new LLMCollector(countingEnvironments(1), {
    policy,
    dialogTurnsPerBatch: 1,
    totalDialogTurns: 1,
    trackPolicyVersion: "uuid",
  });
  collector.announceVersion("step-1");
  const batch = await collector.rollout();
  assert.deepEqual([...batch?.rows[0]?.tokenVersions ?? []], [0, 0, 1]);
  assert.equal(batch?.rows[0]?.versionsExact, true);
  // The sync that made "step-1" reports after its first tokens were seen, and takes their version.
  collector.incrementVersion("step-1");
  assert.equal(collector.policyVersion, batch?.versionNames[1]);
});

// case 109

Deno.test("without a tracker incrementing does nothing and the version is null", async () => {
  await using collector = new LLMCollector(countingEnvironments(1), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 1,
    totalDialogTurns: 1,
  });
  collector.incrementVersion();
  assert.equal(collector.policyVersion, null);
  assert.equal(collector.getPolicyVersion(), null);
  const batch = await collector.rollout();
  assert.equal(batch?.rows[0]?.tokenVersions, null);
});

// case 110

Deno.test("the buffer can be sampled while it is being filled", async () => {
  const replayBuffer = new ReplayBuffer({ capacity: 1_000 });
  await using collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(2), { size: 4 }),
    { policy: fakePolicy(), dialogTurnsPerBatch: 4, totalDialogTurns: 400, replayBuffer },
  );
  collector.start();
  const sizes: number[] = [];
  for (const wanted of [8, 64, 256]) {
    await replayBuffer.waitFor(wanted);
    sizes.push(new Set(replayBuffer.sample(8)).size);
  }
  assert.deepEqual(sizes, [8, 8, 8]);
  await collector.finished();
  assert.ok(replayBuffer.length >= 400);
});
