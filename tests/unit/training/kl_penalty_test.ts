import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../src/errors.ts";
import { type KlEstimator, klPenalty } from "../../../src/training/mod.ts";

const logProb = fc.double({ min: -30, max: 0, noNaN: true });

Deno.test("the mean of k1 and of k3 over a policy's samples is the divergence", () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 50 })), {
        minLength: 1,
        maxLength: 8,
      }),
      (weights) => {
        const sums = [0, 1].map((side) => weights.reduce((sum, pair) => sum + pair[side]!, 0));
        const p = weights.map(([weight]) => weight / sums[0]!);
        const q = weights.map(([, weight]) => weight / sums[1]!);
        const exact = p.reduce((sum, value, i) => sum + value * Math.log(value / q[i]!), 0);
        for (const estimator of ["k1", "k3"] as const) {
          const penalties = klPenalty(p.map(Math.log), q.map(Math.log), {
            coefficient: 1,
            estimator,
          });
          const mean = p.reduce((sum, value, i) => sum + value * penalties[i]!, 0);
          assert.ok(Math.abs(mean - exact) < 1e-5, `${estimator}: ${mean}, not ${exact}`);
        }
      },
    ),
  );
});

Deno.test("k2 and k3 are never below 0, a mask gives 0, and nonsense is refused", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(logProb, logProb, fc.boolean())), (ids) => {
      const [policy, reference] = [ids.map(([p]) => p), ids.map(([, q]) => q)];
      const mask = ids.map(([, , counts]) => counts ? 1 : 0);
      for (const estimator of ["k2", "k3"] as const) {
        const penalties = klPenalty(policy, reference, { coefficient: 0.5, estimator, mask });
        assert.ok(penalties.every((value, i) => mask[i] === 0 ? value === 0 : value >= 0));
        assert.ok(penalties.every(Number.isFinite));
      }
    }),
  );
  const refused = (reference: number[], coefficient: number, estimator?: KlEstimator) =>
    assert.throws(() => klPenalty([-1], reference, { coefficient, estimator }), ValidationError);
  refused([-1, -2], 1);
  refused([-Infinity], 1);
  refused([-1], NaN);
  refused([-1], 1, "k4" as KlEstimator);
});
