import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../src/errors.ts";
import {
  compareLogProbs,
  importanceWeights,
  mismatchAlarms,
  type ScoredRow,
} from "../../../src/training/mod.ts";

const logProb = fc.double({ min: -8, max: 0, noNaN: true });
const rowOf = (length: number) =>
  fc.record({
    sampled: fc.array(logProb, { minLength: length, maxLength: length }),
    trained: fc.array(logProb, { minLength: length, maxLength: length }),
    mask: fc.array(fc.constantFrom(0, 1), { minLength: length, maxLength: length }),
  });
const anyRow = fc.integer({ min: 0, max: 20 }).chain(rowOf);

/** Log ratios that count, by the plainest code. */
function logRatios(rows: readonly ScoredRow[]): number[] {
  return rows.flatMap(({ sampled, trained, mask }) =>
    Array.from(sampled, (value, index) => trained[index]! - value)
      .filter((_, index) => mask === undefined || mask[index] === 1)
  );
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function assertNear(actual: number, expected: number): void {
  assert.ok(
    Math.abs(actual - expected) <= 1e-9 * (1 + Math.abs(expected)),
    `${actual} ${expected}`,
  );
}

Deno.test("the figures are their formulas over all ids that count", () => {
  fc.assert(fc.property(fc.array(anyRow), (rows) => {
    const logs = logRatios(rows);
    fc.pre(logs.length > 0);
    const report = compareLogProbs(rows);
    const ratios = logs.map(Math.exp);
    assert.equal(report.tokens, logs.length);
    assertNear(report.k1, mean(logs.map((log) => -log)));
    assertNear(report.k2, mean(logs.map((log) => log ** 2 / 2)));
    assertNear(report.k3, mean(logs.map((log) => Math.exp(log) - 1 - log)));
    assertNear(report.chiSquared, mean(ratios.map((ratio) => ratio ** 2)) - 1);
    assertNear(report.maxAbsolute, Math.max(...logs.map(Math.abs)));
    const size = mean(ratios) ** 2 / mean(ratios.map((ratio) => ratio ** 2));
    assertNear(report.effectiveSampleSize, size);
    assert.ok(report.k2 >= 0 && report.k3 >= -1e-12);
    assert.ok(report.effectiveSampleSize > 0 && report.effectiveSampleSize <= 1 + 1e-12);
  }));
});

Deno.test("rows on which both agree have no divergence and count in full", () => {
  fc.assert(fc.property(fc.array(logProb, { minLength: 1 }), (sampled) => {
    const report = compareLogProbs([{ sampled, trained: sampled }]);
    assert.equal(report.k3, 0);
    assert.equal(report.effectiveSampleSize, 1);
    assert.equal(report.perplexityRatio, 1);
    assert.deepEqual(mismatchAlarms(report), []);
  }));
});

Deno.test("by age and by position every id counts exactly once", () => {
  fc.assert(fc.property(fc.array(anyRow, { minLength: 1 }), (rows) => {
    fc.pre(logRatios(rows).length > 0);
    const versioned = rows.map((row, index) => ({
      ...row,
      tokenVersions: row.sampled.map(() => index),
    }));
    const { byAge, byPosition, tokens } = compareLogProbs(versioned, { positionsPerRange: 4 });
    for (const parts of [byAge, byPosition]) {
      const sum = [...parts.values()].reduce((total, part) => total + part.tokens, 0);
      assert.equal(sum, tokens);
    }
    assert.ok([...byAge.keys()].every((age) => age >= 0));
  }));
});

Deno.test("the worst ids are the ones with the largest differences, worst first", () => {
  fc.assert(fc.property(fc.array(anyRow), fc.integer({ min: 0, max: 5 }), (rows, worst) => {
    const logs = logRatios(rows).map(Math.abs).sort((a, b) => b - a);
    fc.pre(logs.length > 0);
    const report = compareLogProbs(rows, { worst });
    assert.deepEqual(report.worst.map(({ logRatio }) => Math.abs(logRatio)), logs.slice(0, worst));
    for (const { row, position, logRatio } of report.worst) {
      assert.equal(rows[row]!.trained[position]! - rows[row]!.sampled[position]!, logRatio);
    }
  }));
});

Deno.test("alarms name the figure and its bound", () => {
  const report = compareLogProbs([{ sampled: [-1, -1], trained: [-1, -3] }]);
  const alarms = mismatchAlarms(report, { maxAbsolute: 1 });
  assert.equal(alarms.length, 3);
  assert.match(alarms[0]!, /k3 is 0\.568, above 0\.01/);
  assert.match(alarms[1]!, /differ by 2\.00, above 1/);
  assert.match(alarms[2]!, /effective sample size is 0\.6\d+, below 0\.9/);
});

Deno.test("truncated weights stay in their bounds, masked ones are 0 beyond them", () => {
  const options = fc.record({
    level: fc.constantFrom("token" as const, "sequence" as const, "geometric" as const),
    beyond: fc.constantFrom("truncate" as const, "mask" as const),
    upper: fc.double({ min: 1, max: 4, noNaN: true }),
    lower: fc.double({ min: 0, max: 1, noNaN: true }),
  });
  fc.assert(fc.property(fc.array(anyRow), options, (rows, chosen) => {
    const weights = importanceWeights(rows, chosen);
    for (const [index, row] of rows.entries()) {
      const counted = [...row.mask.keys()].filter((position) => row.mask[position] === 1);
      const logs = counted.map((position) => row.trained[position]! - row.sampled[position]!);
      const sum = logs.reduce((total, log) => total + log, 0);
      for (const [position, weight] of weights[index]!.entries()) {
        const at = counted.indexOf(position);
        if (at < 0) {
          assert.equal(weight, 0);
          continue;
        }
        const log = { token: logs[at]!, sequence: sum, geometric: sum / logs.length }[chosen.level];
        const ratio = Math.exp(Math.max(-20, Math.min(20, log)));
        const isInside = ratio >= chosen.lower && ratio <= chosen.upper;
        const beyond = Math.min(chosen.upper, Math.max(chosen.lower, ratio));
        const outside = chosen.beyond === "mask" ? 0 : beyond;
        assert.equal(weight, Math.fround(isInside ? ratio : outside));
      }
    }
  }));
});

Deno.test("weights of a level, or for what is beyond, that is none are refused by name", () => {
  const weights = (options: object) => () =>
    importanceWeights([{ sampled: [-3, -1], trained: [-1, -1] }], options);
  assert.throws(weights({ level: "rows" }), { message: /level must be one of .*, not "rows"/ });
  assert.throws(weights({ beyond: "drop" }), { message: /beyond must be one of .*, not "drop"/ });
});

Deno.test("what cannot be compared is refused by row and id", () => {
  const refused = (rows: ScoredRow[], message: RegExp) =>
    assert.throws(() => compareLogProbs(rows), { name: "ValidationError", message });
  refused([], /no id counts/);
  refused([{ sampled: [-1], trained: [] }], /Row 0: trained must have 1 entries/);
  refused([{ sampled: [-1], trained: [-Infinity] }], /Row 0, id 0: .*-Infinity/);
  refused([{ sampled: [-1], trained: [-1], mask: [] }], /Row 0: mask must have 1/);
  assert.throws(() => importanceWeights([], { upper: 0.5 }), ValidationError);
});
