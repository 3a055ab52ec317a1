import assert from "node:assert/strict";
import fc from "fast-check";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { evaluate, passAtK } from "../../../src/evaluation/mod.ts";
import { seeded } from "../../_support/seeded.ts";
import { fakePolicy } from "../collector/_fakes.ts";

/** Of all ways to choose `k` of the samples, the part that has a right one. */
function countedPassAtK(samples: number, right: number, k: number): number {
  let all = 0;
  let hits = 0;
  for (let chosen = 0; chosen < 2 ** samples; chosen++) {
    const places = Array.from({ length: samples }, (_, i) => i).filter((i) => chosen & 1 << i);
    if (places.length !== k) continue;
    all++;
    if (places.some((place) => place < right)) hits++;
  }
  return hits / all;
}

Deno.test("pass@k is the part of all choices of k samples that has a right one", () => {
  for (let samples = 1; samples <= 10; samples++) {
    for (let right = 0; right <= samples; right++) {
      for (let k = 1; k <= samples; k++) {
        const difference = passAtK({ samples, right, k }) - countedPassAtK(samples, right, k);
        assert.ok(Math.abs(difference) < 1e-12);
      }
    }
  }
  assert.ok(Math.abs(passAtK({ samples: 100_000, right: 1, k: 50_000 }) - 0.5) < 1e-6);
  for (const [samples, right, k] of [[4, 5, 1], [4, 1, 5], [4, 1, 0], [1.5, 1, 1]] as const) {
    assert.throws(() => passAtK({ samples, right, k }), ValidationError);
  }
});

Deno.test("an evaluation has each sample of each task once, and leaves failed ones out", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 12 }),
      fc.integer({ min: 1, max: 4 }),
      fc.uniqueArray(fc.nat(47), { maxLength: 8 }),
      fc.integer(),
      async (tasks, samplesPerTask, failing, seed) => {
        const random = seeded(seed);
        const pool = new EnvironmentPool(() => {
          let group = 0;
          let member = 0;
          return {
            reset: (task) => {
              ({ group, member } = task);
              return { messages: [{ role: "user", content: "?" }], info: { task: group } };
            },
            step: () => ({ reward: member <= group % 3 ? 1 : 0, done: true }),
          };
        }, { size: 5 });
        let registered = 0;
        const policy = {
          ...fakePolicy(async ({ dialog }) => {
            for (let i = random() * 9; i > 0; i--) await Promise.resolve();
            if (failing.includes(dialog)) throw new Error("no answer");
          }),
          registerCollector: () => void registered++,
        };
        const progress: number[] = [];
        const result = await evaluate(pool, {
          policy,
          tasks,
          samplesPerTask,
          onProgress: ({ done }) => progress.push(done),
        });
        assert.equal(registered, 0);
        const failed = failing.filter((dialog) => dialog < tasks * samplesPerTask);
        assert.equal(result.failures, failed.length);
        const wanted = Array.from({ length: tasks }, (_, task) => ({
          task,
          rewards: Array.from({ length: samplesPerTask }, (_, member) => member)
            .filter((member) => !failed.includes(task * samplesPerTask + member))
            .map((member) => member <= task % 3 ? 1 : 0),
        })).filter(({ rewards }) => rewards.length > 0);
        assert.deepEqual(result.tasks.map(({ task, rewards }) => ({ task, rewards })), wanted);
        assert.ok(result.tasks.every(({ task, info }) => info.task === task));
        if (wanted.length > 0) assert.equal(progress.at(-1), wanted.length);
        if (failed.length > 0) return;
        const share = (k: number) =>
          wanted.reduce((sum, { rewards }) => {
            const right = rewards.filter((reward) => reward > 0).length;
            return sum + passAtK({ samples: samplesPerTask, right, k });
          }, 0) / tasks;
        assert.ok(Math.abs(result.passAtK[1]! - share(1)) < 1e-12);
        assert.ok(Math.abs(result.passAtK[samplesPerTask]! - share(samplesPerTask)) < 1e-12);
        assert.ok(Math.abs(result.meanReward - share(1)) < 1e-12);
      },
    ),
    { numRuns: 60 },
  );
});

Deno.test("numbers that make no sense are refused before anything runs", async () => {
  const pool = new EnvironmentPool(() => assert.fail("made"), { size: 1 });
  const policy = fakePolicy();
  await assert.rejects(evaluate(pool, { policy, tasks: 0 }), ValidationError);
  await assert.rejects(evaluate(pool, { policy, tasks: 1, ks: [2] }), /pass@2 needs at least 2/);
});
