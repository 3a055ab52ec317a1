import assert from "node:assert/strict";
import { uniformAt } from "../../../src/embedded/scheduler/random.ts";
import { LogProbRow, sampleToken } from "../../../src/embedded/scheduler/sampler.ts";
import { parseSampling } from "../../../src/embedded/scheduler/sampling_params.ts";
import { Task } from "../../../src/embedded/scheduler/task.ts";

/** Logits whose softmax is 0.4, 0.3, 0.2, 0.1. */
const scores = () => Float32Array.from([0.4, 0.3, 0.2, 0.1], Math.log);

function counts(params: Record<string, unknown>, options: { made?: number[] } = {}): number[] {
  const found = [0, 0, 0, 0];
  for (let seed = 0; seed < 2000; seed++) {
    const task = taskOf(params, { seed, made: options.made ?? [] });
    found[sampleToken(task, scores(), [3]).token]!++;
  }
  return found;
}

function taskOf(params: Record<string, unknown>, options: { seed: number; made: number[] }): Task {
  const task = new Task({
    rid: "r",
    promptIds: [0],
    sampling: parseSampling(params, { vocabSize: 4, strict: false }),
    seed: options.seed,
    returnLogProbs: true,
    logProbStart: 1,
    topLogProbs: 0,
    tokenIdsLogProb: null,
    textInLogProbs: false,
  }, "v");
  task.ids.push(...options.made);
  return task;
}

function assertShares(found: number[], expected: number[]): void {
  const total = found.reduce((sum, n) => sum + n, 0);
  found.forEach((n, i) => {
    // Five standard deviations of a binomial count, and none at all where the share is zero.
    const slack = 5 * Math.sqrt(expected[i]! * (1 - expected[i]!) / total);
    assert.ok(Math.abs(n / total - expected[i]!) <= slack, `${found} is not near ${expected}`);
  });
}

Deno.test("sampling follows the softmax, sharpened or flattened by the temperature", () => {
  assertShares(counts({}), [0.4, 0.3, 0.2, 0.1]);
  const squared = [0.16, 0.09, 0.04, 0.01].map((p) => p / 0.3);
  assertShares(counts({ temperature: 0.5 }), squared);
});

Deno.test("top_k, top_p and min_p leave out the tail as SGLang does", () => {
  assertShares(counts({ top_k: 2 }), [4 / 7, 3 / 7, 0, 0]);
  // The token that crosses top_p stays: 0.4 is below 0.5, and 0.3 is the one that crosses.
  assertShares(counts({ top_p: 0.5 }), [4 / 7, 3 / 7, 0, 0]);
  assertShares(counts({ min_p: 0.45 }), [4 / 9, 3 / 9, 2 / 9, 0]);
});

Deno.test("penalties count output tokens only", () => {
  const made = [1, 1];
  const twice = [0.4, 0.3 * Math.exp(-2), 0.2, 0.1];
  const total = twice.reduce((sum, p) => sum + p, 0);
  assertShares(counts({ frequency_penalty: 1 }, { made }), twice.map((p) => p / total));
  assertShares(counts({ presence_penalty: 2 }, { made }), twice.map((p) => p / total));
  // log 0.3 is negative, so a repetition penalty multiplies it: 0.3 becomes 0.3².
  const repeated = [0.4, 0.09, 0.2, 0.1].map((p) => p / 0.79);
  assertShares(counts({ repetition_penalty: 2 }, { made }), repeated);
});

Deno.test("min_new_tokens forbids the end token until then", () => {
  assert.equal(counts({ min_new_tokens: 2 }, { made: [0] })[3], 0);
  assert.ok(counts({ min_new_tokens: 2 }, { made: [0, 0] })[3]! > 0);
});

Deno.test("the log-probability is the temperature's, without the filters", () => {
  const task = taskOf({ temperature: 0.5, top_k: 2 }, { seed: 1, made: [] });
  const { token, logProbs } = sampleToken(task, scores(), [3]);
  const [value] = logProbs!.of(token);
  const expected = Math.log([0.16, 0.09][token]! / 0.3);
  assert.ok(Math.abs(value! - expected) < 1e-6);
});

Deno.test("the likeliest tokens come in order, ties by id", () => {
  const row = new LogProbRow(Float32Array.of(1, 3, 2, 3, 0));
  assert.deepEqual(row.top(3).map(([, id]) => id), [1, 3, 2]);
  assert.deepEqual(row.top(9).map(([, id]) => id), [1, 3, 2, 0, 4]);
});

Deno.test("random numbers depend on seed and index alone and fill the interval evenly", () => {
  assert.equal(uniformAt(5, 3), uniformAt(5, 3));
  const bins = Array<number>(10).fill(0);
  for (let i = 0; i < 10_000; i++) {
    bins[Math.floor(uniformAt(i % 100, Math.floor(i / 100)) * 10)]!++;
  }
  for (const bin of bins) assert.ok(Math.abs(bin - 1000) < 150, `bins ${bins}`);
});
