import assert from "node:assert/strict";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, ReplayBuffer, RolloutBatch } from "../../../src/collector/mod.ts";
import { Gate } from "../../../src/collector/gate.ts";
import { collect, countingEnvironment, countingEnvironments, fakePolicy } from "./_fakes.ts";

/** Lets everything run that can. */
async function settle(): Promise<void> {
  for (let i = 0; i < 2_000; i++) await Promise.resolve();
}

Deno.test("a pool collects ahead of the reader by the prefetched batches and then waits", async () => {
  for (const prefetchBatches of [0, 1, 3]) {
    const policy = fakePolicy();
    await using collector = new LLMCollector(
      new EnvironmentPool(() => countingEnvironment(1), { size: 2 }),
      { policy, dialogTurnsPerBatch: 10, prefetchBatches },
    );
    await collector.rollout();
    await settle();
    const ahead = collector.stats.turns - 10;
    assert.ok(ahead >= 10 * prefetchBatches - 2 && ahead <= 10 * prefetchBatches + 2, `${ahead}`);
    assert.equal(collector.running, 0);
  }
});

Deno.test("environments in step take no turn while nobody reads", async () => {
  await using collector = new LLMCollector(countingEnvironments(3), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 6,
  });
  await settle();
  assert.equal(collector.stats.turns, 0);
  await collector.rollout();
  await settle();
  assert.equal(collector.stats.turns, 6);
});

Deno.test("a slow sink slows the collector down", async () => {
  const hold = Promise.withResolvers<void>();
  const policy = fakePolicy();
  const collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 2 }),
    {
      policy,
      dialogTurnsPerBatch: 4,
      totalDialogs: 40,
      queue: { accept: () => hold.promise },
    },
  );
  collector.start();
  await settle();
  assert.ok(policy.calls <= 4 + 4 + 2, `${policy.calls}`);
  hold.resolve();
  await collector.finished();
  assert.equal(policy.calls, 40);
});

Deno.test("calls into environments stay within the pool's concurrency", async () => {
  let inside = 0;
  let most = 0;
  const counted = async <T>(work: () => T | Promise<T>): Promise<T> => {
    most = Math.max(most, ++inside);
    await Promise.resolve();
    inside--;
    return work();
  };
  const pool = new EnvironmentPool(() => {
    const inner = countingEnvironment(2);
    return {
      reset: (task) => counted(() => inner.reset(task)),
      step: (action) => counted(() => inner.step(action)),
    };
  }, { size: 12, maxConcurrency: 3 });
  await using collector = new LLMCollector(pool, {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 10,
    totalDialogs: 30,
  });
  await collect(collector);
  assert.equal(most, 3);
});

Deno.test("resetAtEachIter begins new dialogs with every batch", async () => {
  await using collector = new LLMCollector(countingEnvironments(2), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 4,
    totalDialogTurns: 8,
    resetAtEachIter: true,
  });
  const batches = await collect(collector);
  const turns = batches.map((batch) => batch.rows.map((row) => [row.dialog, row.turn]));
  assert.deepEqual(turns, [
    [[0, 0], [0, 1], [1, 0], [1, 1]],
    [[2, 0], [2, 1], [3, 0], [3, 1]],
  ]);
});

Deno.test("without it dialogs go on across batches, and begin again when they end", async () => {
  await using collector = new LLMCollector(countingEnvironments(1, 3), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 2,
    totalDialogTurns: 6,
  });
  const batches = await collect(collector);
  assert.deepEqual(batches.flatMap((batch) => batch.rows.map((row) => [row.dialog, row.turn])), [
    [0, 0],
    [0, 1],
    [0, 2],
    [1, 0],
    [1, 1],
    [1, 2],
  ]);
});

Deno.test("the state that a policy keeps comes back on the next turn of the same dialog only", async () => {
  const seen: unknown[] = [];
  const inner = fakePolicy();
  const policy = {
    call: async (...args: Parameters<typeof inner.call>) => {
      const [request] = args;
      seen.push([request.dialog, request.turn, request.state]);
      return { ...await inner.call(...args), state: `${request.dialog}:${request.turn}` };
    },
  };
  await using collector = new LLMCollector(countingEnvironments(1, 2), {
    policy,
    dialogTurnsPerBatch: 4,
    totalDialogTurns: 4,
  });
  await collect(collector);
  assert.deepEqual(seen, [[0, 0, undefined], [0, 1, "0:0"], [1, 0, undefined], [1, 1, "1:0"]]);
});

Deno.test("postproc is applied to every batch and can be replaced", async () => {
  const half = (batch: RolloutBatch) => {
    const rows = batch.rows.filter((_, i) => i % 2 === 0);
    return new RolloutBatch({ rows, shape: [rows.length] });
  };
  await using collector = new LLMCollector(countingEnvironments(4), {
    policy: () => fakePolicy(),
    dialogTurnsPerBatch: 4,
    postproc: half,
  });
  assert.equal((await collector.rollout())?.length, 2);
  collector.setPostproc((batch) => batch.flatten());
  assert.deepEqual((await collector.rollout())?.shape, [4]);
});

Deno.test("a gate lets those pass who are wanted, in the order in which they came", async () => {
  let wanted = new Set<number>();
  const gate = new Gate(({ environment }) => wanted.has(environment) ? "pass" : "wait");
  const { signal } = new AbortController();
  const passed: number[] = [];
  const waits = [3, 1, 2].map(async (environment) => {
    await gate.pass({ environment, begins: false }, signal);
    passed.push(environment);
  });
  gate.update();
  await Promise.resolve();
  assert.deepEqual([passed, gate.waiting], [[], 3]);
  wanted = new Set([1, 3]);
  gate.update();
  await Promise.all([waits[0], waits[1]]);
  assert.deepEqual([passed, gate.waiting], [[3, 1], 1]);
  wanted.add(2);
  gate.update();
  await waits[2];
  assert.deepEqual(passed, [3, 1, 2]);
});

Deno.test("a replay buffer keeps the newest rows and draws different ones", async () => {
  await using collector = new LLMCollector(countingEnvironments(1), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 10,
  });
  const batch = await collector.rollout();
  const buffer = new ReplayBuffer({ capacity: 4 });
  assert.throws(() => buffer.sample(1), /Cannot sample 1 rows: the buffer has 0/);
  buffer.extend(batch!.rows);
  assert.deepEqual([buffer.length, buffer.added], [4, 10]);
  assert.deepEqual(
    buffer.sample(4).map((row) => row.turn).toSorted((a, b) => a - b),
    [6, 7, 8, 9],
  );
  assert.throws(() => buffer.sample(2, { where: (row) => row.turn === 7 }), /has 1 that match/);
  await assert.rejects(buffer.waitFor(5), /the capacity is 4/);
  buffer.clear();
  assert.equal(buffer.length, 0);
  assert.throws(() => new ReplayBuffer({ capacity: 0 }), /whole number above 0, not 0/);
});

Deno.test("a batch refuses a shape that does not fit its rows", () => {
  assert.throws(() => new RolloutBatch({ rows: [], shape: [2, 2] }), /has 4 places for 0 rows/);
});

Deno.test("no turn is taken in the moments between a full batch and its reader", async () => {
  // However far apart two places end: one ends its dialog while the reader is on its way already.
  for (let apart = 0; apart < 24; apart++) {
    const policy = fakePolicy();
    const environments = countingEnvironments(2, 1).map((inner, i) => ({
      ...inner,
      step: async (action: Parameters<typeof inner.step>[0]) => {
        for (let step = 0; step < i * apart; step++) await Promise.resolve();
        return inner.step(action);
      },
    }));
    await using collector = new LLMCollector(environments, { policy, dialogTurnsPerBatch: 2 });
    await collector.rollout();
    await settle();
    assert.equal(policy.calls, 2);
  }
});
