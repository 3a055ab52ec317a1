import assert from "node:assert/strict";
import { AbortedError, TimeoutError } from "../../../src/errors.ts";
import { type Environment, EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { LLMCollector, type RolloutBatch } from "../../../src/collector/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { collect, countingEnvironment, countingEnvironments, fakePolicy } from "./_fakes.ts";

/** Fails the dialogs for which `isBad` says so. */
function failingEnvironment(isBad: (dialog: number, attempt: number) => boolean): Environment {
  return {
    reset: ({ dialog, attempt }) => {
      if (isBad(dialog, attempt)) throw new Error(`no sandbox for ${dialog}`);
      return { messages: [{ role: "user", content: "go" }] };
    },
    step: () => ({ reward: 1, done: true }),
  };
}

Deno.test("the error of one dialog reaches the reader, who can go on; no row of the others is lost", async () => {
  await using collector = new LLMCollector(
    new EnvironmentPool(() => failingEnvironment((dialog) => dialog === 5), { size: 3 }),
    { policy: fakePolicy(), dialogTurnsPerBatch: 4, totalDialogs: 12 },
  );
  const rows: number[] = [];
  const errors: Error[] = [];
  for (;;) {
    try {
      const batch = await collector.rollout();
      if (batch === null) break;
      rows.push(...batch.rows.map((row) => row.dialog));
    } catch (error) {
      errors.push(error as Error);
    }
  }
  assert.equal(errors.length, 1);
  assert.match(errors[0]!.message, /Environment \d failed in reset\(\) of dialog 5: no sandbox/);
  assert.deepEqual(rows.toSorted((a, b) => a - b), [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
});

Deno.test("with skip a failed dialog is listed in the batch, with its tries", async () => {
  await using collector = new LLMCollector(
    new EnvironmentPool(() => failingEnvironment((dialog) => dialog === 1), { size: 1 }),
    {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 2,
      totalDialogs: 3,
      dialogRetries: 1,
      onDialogError: "skip",
    },
  );
  const [batch] = await collect(collector);
  assert.deepEqual(batch?.rows.map((row) => row.dialog), [0, 2]);
  assert.deepEqual(batch?.failures.map(({ dialog, attempts }) => [dialog, attempts]), [[1, 2]]);
});

Deno.test("skipping ends in an error when nothing but failures comes", async () => {
  await using collector = new LLMCollector(
    new EnvironmentPool(() => failingEnvironment(() => true), { size: 2 }),
    {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 2,
      onDialogError: "skip",
      maxConsecutiveFailures: 5,
    },
  );
  await assert.rejects(collector.rollout(), /5 failed dialogs in a row; the last: .*no sandbox/);
  await assert.rejects(collector.rollout(), /5 failed dialogs in a row/);
});

Deno.test("a retried dialog has its number and the next try, in a new environment of the pool", async () => {
  let made = 0;
  const closed: number[] = [];
  const pool = new EnvironmentPool(() => {
    const id = made++;
    return {
      ...failingEnvironment((dialog, attempt) => dialog === 0 && attempt === 0),
      close: () => void closed.push(id),
    };
  }, { size: 1 });
  const collector = new LLMCollector(pool, {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 2,
    totalDialogs: 2,
    dialogRetries: 1,
  });
  const [batch] = await collect(collector);
  assert.deepEqual(batch?.rows.map((row) => [row.dialog, row.attempt]), [[0, 1], [1, 0]]);
  assert.deepEqual([made, closed], [2, [0, 1]]);
  assert.equal(collector.stats.retries, 1);
});

Deno.test("an environment that answers nonsense is named with what is wrong", async () => {
  const nonsense: [Partial<Environment>, RegExp][] = [
    [{ reset: () => ({ messages: [] }) }, /reset\(\) must give at least one message/],
    [{ step: () => ({ reward: NaN, done: true }) }, /finite reward, not NaN/],
    [{ step: () => ({ reward: 1 }) as never }, /done as true or false, not undefined/],
  ];
  for (const [part, message] of nonsense) {
    const environment = { ...countingEnvironment(1), ...part };
    await using collector = new LLMCollector(environment, {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 1,
    });
    await assert.rejects(collector.rollout(), message);
  }
});

Deno.test("an environment that never answers misses its deadline; the others go on", async () => {
  const clock = new FakeClock();
  const pool = new EnvironmentPool((index) => ({
    ...countingEnvironment(1),
    ...(index === 0 ? { step: () => new Promise<never>(() => {}) } : {}),
  }), { size: 2 });
  await using collector = new LLMCollector(pool, {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 4,
    environmentTimeoutMs: 1_000,
    prefetchBatches: 0,
    clock,
  });
  const first = await collector.rollout();
  assert.deepEqual(first?.rows.map((row) => row.environment), [1, 1, 1, 1]);
  await clock.advance(1_000);
  await assert.rejects(collector.rollout(), (error: Error) => {
    assert.match(error.message, /Environment 0 failed in step\(\) .* after 1000 ms/);
    assert.ok(error.cause instanceof TimeoutError);
    return true;
  });
});

Deno.test("a policy that never answers misses its deadline with a named phase", async () => {
  const clock = new FakeClock();
  const policy = fakePolicy(() => new Promise(() => {}));
  await using collector = new LLMCollector(countingEnvironment(1), {
    policy,
    dialogTurnsPerBatch: 1,
    turnTimeoutMs: 500,
    clock,
  });
  const outcome = assert.rejects(
    collector.rollout(),
    /phase "policy call of dialog 0, turn 0" after 500 ms/,
  );
  while (policy.calls === 0) await Promise.resolve();
  await clock.advance(500);
  await outcome;
});

Deno.test("aborting the wait for a batch keeps its rows for the next reader", async () => {
  const hold = Promise.withResolvers<void>();
  await using collector = new LLMCollector(countingEnvironments(2), {
    policy: fakePolicy(({ turn, dialog }) => dialog === 1 && turn === 1 ? hold.promise : undefined),
    dialogTurnsPerBatch: 4,
    totalDialogTurns: 4,
  });
  const stop = new AbortController();
  const wait = collector.rollout({ signal: stop.signal });
  while (collector.waiting < 3) await Promise.resolve();
  stop.abort(new Error("enough"));
  await assert.rejects(wait, AbortedError);
  hold.resolve();
  const batch = await collector.rollout();
  assert.deepEqual(batch?.shape, [2, 2]);
});

Deno.test("the collector's signal ends dialogs, closes environments and keeps finished rows", async () => {
  const stop = new AbortController();
  let closed = 0;
  let heard = 0;
  const pool = new EnvironmentPool(
    () => ({ ...countingEnvironment(1), close: () => void closed++ }),
    { size: 4 },
  );
  const collector = new LLMCollector(pool, {
    policy: fakePolicy(({ dialog }, signal) => {
      if (dialog < 4) return;
      return new Promise((_, reject) =>
        signal.addEventListener("abort", () => {
          heard++;
          reject(signal.reason);
        })
      );
    }),
    dialogTurnsPerBatch: 100,
    signal: stop.signal,
  });
  const wait = collector.rollout();
  while (collector.waiting < 4 || collector.running < 4) await Promise.resolve();
  while (collector.stats.dialogsStarted < 8) await Promise.resolve();
  for (let i = 0; i < 50; i++) await Promise.resolve();
  stop.abort();
  await assert.rejects(wait, AbortedError);
  await collector.asyncShutdown();
  await collector.asyncShutdown();
  assert.deepEqual([closed, heard], [4, 4]);
  assert.deepEqual(
    collector.drain()?.rows.map((row) => row.dialog).toSorted((a, b) => a - b),
    [0, 1, 2, 3],
  );
  assert.equal(collector.drain(), null);
  assert.equal(await collector.rollout(), null);
  const { dialogsStarted, dialogsCompleted, dialogsAbandoned } = collector.stats;
  assert.deepEqual([dialogsStarted, dialogsCompleted, dialogsAbandoned], [8, 4, 4]);
});

Deno.test("leaving the loop and disposing ends everything", async () => {
  let shutDown: LLMCollector<RolloutBatch>;
  {
    await using collector = new LLMCollector(
      new EnvironmentPool(() => countingEnvironment(), { size: 8 }),
      { policy: fakePolicy(), dialogTurnsPerBatch: 8 },
    );
    for await (const batch of collector) {
      assert.equal(batch.length, 8);
      break;
    }
    shutDown = collector;
  }
  assert.equal(shutDown.running, 0);
  assert.equal(await shutDown.rollout(), null);
});

Deno.test("an error of the background run comes out of finished() and asyncShutdown()", async () => {
  const accepted: number[] = [];
  const queue = { accept: (batch: RolloutBatch) => void accepted.push(batch.length) };
  const collector = new LLMCollector(failingEnvironment((dialog) => dialog === 3), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 1,
    queue,
  });
  collector.start();
  await assert.rejects(collector.finished(), /no sandbox for 3/);
  await assert.rejects(collector.asyncShutdown(), /no sandbox for 3/);
  assert.deepEqual(accepted, [1, 1, 1]);
});

Deno.test("starting in the background needs somewhere to put the rows", () => {
  const collector = new LLMCollector(countingEnvironment(1), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 1,
  });
  assert.throws(() => collector.start(), /give a replayBuffer or a queue/);
});
