import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../src/errors.ts";
import {
  drGrpo,
  groupAdvantages,
  grpo,
  isFlat,
  rewardsToGo,
  rloo,
  whiten,
} from "../../../src/training/mod.ts";

const reward = fc.double({ min: -100, max: 100, noNaN: true });
/** Rewards with groups that do not lie together. */
const graded = fc.array(fc.record({ reward, group: fc.integer({ min: 0, max: 5 }) }));

function assertClose(actual: ArrayLike<number>, expected: readonly number[]): void {
  assert.equal(actual.length, expected.length);
  for (const [index, value] of expected.entries()) {
    assert.ok(Math.abs(actual[index]! - value) <= 1e-5 * (1 + Math.abs(value)), `${index}`);
  }
}

function split(samples: readonly { reward: number; group: number }[]) {
  return {
    rewards: samples.map((sample) => sample.reward),
    groups: samples.map((sample) => sample.group),
  };
}

Deno.test("GRPO's advantages are those of torch", () => {
  // torch: g = tensor([1., 0., 0.5, 2.]); (g - g.mean()) / (g.std() + 1e-6)
  const expected = [0.14638488, -1.02469434, -0.43915476, 1.3174641];
  assertClose(grpo([1, 0, 0.5, 2], ["a", "a", "a", "a"]), expected);
});

Deno.test("a group's advantages do not depend on the other groups or on their order", () => {
  fc.assert(fc.property(graded, (samples) => {
    const { rewards, groups } = split(samples);
    for (const method of [grpo, drGrpo, rloo]) {
      const together = method(rewards, groups);
      for (const group of new Set(groups)) {
        const members = [...groups.keys()].filter((index) => groups[index] === group);
        const alone = method(members.map((index) => rewards[index]!), members.map(() => 0));
        assert.deepEqual([...alone], members.map((index) => together[index]!));
      }
    }
  }));
});

Deno.test("the advantages of a group add up to nothing", () => {
  fc.assert(fc.property(fc.array(reward, { minLength: 1, maxLength: 64 }), (rewards) => {
    const groups = rewards.map(() => "one");
    for (const method of [drGrpo, rloo]) {
      const sum = method(rewards, groups).reduce((total, value) => total + value, 0);
      assert.ok(Math.abs(sum) < 1e-2, `${sum}`);
    }
  }));
});

Deno.test("RLOO is Dr. GRPO scaled by n / (n - 1)", () => {
  fc.assert(fc.property(fc.array(reward, { minLength: 2, maxLength: 32 }), (rewards) => {
    const groups = rewards.map(() => 0);
    const factor = rewards.length / (rewards.length - 1);
    assertClose(rloo(rewards, groups), [...drGrpo(rewards, groups)].map((value) => value * factor));
  }));
});

Deno.test("a group without spread, or of one, gives zeros and no NaN", () => {
  const any = fc.oneof(reward, fc.double({ noNaN: true, min: -1e300, max: 1e300 }));
  const withoutEpsilon = (rewards: number[], groups: number[]) =>
    groupAdvantages(rewards, groups, { epsilon: 0 });
  fc.assert(
    fc.property(any, fc.integer({ min: 1, max: 9 }), (value, size) => {
      const rewards = new Array<number>(size).fill(value);
      const groups = rewards.map(() => 0);
      for (const method of [grpo, drGrpo, rloo, withoutEpsilon]) {
        // Exactly: the rest of a rounding would be a gradient of its own.
        for (const advantage of method(rewards, groups)) assert.ok(advantage === 0, `${advantage}`);
      }
      for (const epsilon of [0, 1e-6]) {
        assert.ok(whiten(rewards, { epsilon }).every((one) => one === 0));
      }
    }),
    { examples: [[0.1, 3], [0.1, 9], [1e15 + 0.3, 3]] },
  );
});

Deno.test("without baseline and scale an advantage is the reward", () => {
  const plain = groupAdvantages([3, -1], [0, 1], { baseline: "none", scale: "none" });
  assert.deepEqual([...plain], [3, -1]);
});

Deno.test("whitened values have mean 0 and deviation 1, and masked ones are 0", () => {
  assertClose(whiten([1, 2, 3]), [-1, 0, 1]);
  assertClose(whiten([1, 99, 2, 3], { mask: [1, 0, 1, 1] }), [-1, 0, 0, 1]);
  assert.deepEqual([...whiten([])], []);
  assert.deepEqual([...whiten([5], { mask: [0] })], [0]);
});

Deno.test("rewards to go count later turns less by the discount", () => {
  assertClose(rewardsToGo([1, 2, 4], { discount: 0.5 }), [3, 4, 4]);
  assertClose(rewardsToGo([1, 2, 4]), [7, 6, 4]);
  assert.throws(() => rewardsToGo([1], { discount: 1.5 }), ValidationError);
});

Deno.test("a group is flat when its rewards do not differ by more than the tolerance", () => {
  assert.equal(isFlat([]), true);
  assert.equal(isFlat([0.5, 0.5]), true);
  assert.equal(isFlat([0.5, 0.6]), false);
  assert.equal(isFlat([0.5, 0.6], 0.2), true);
});

Deno.test("rewards that are no numbers and lengths that differ are refused by name", () => {
  assert.throws(() => grpo([1, NaN], [0, 0]), {
    name: "ValidationError",
    message: /Value 1 .*NaN/,
  });
  assert.throws(() => rloo([1], [0, 0]), { name: "ValidationError", message: /groups .* 2 of 1/ });
  assert.throws(() => whiten([1, 2], { mask: [1] }), { message: /mask .* 1 of 2/ });
  assert.throws(() => rewardsToGo([0, Infinity]), { message: /Value 1 .*Infinity/ });
});

Deno.test("options that are none are refused by name", () => {
  const refused: [Record<string, unknown>, RegExp][] = [
    [{ baseline: "median" }, /baseline must be one of "mean".*, not "median"/],
    [{ scale: "toString" }, /scale must be one of "std", "none", not "toString"/],
    [{ epsilon: -1 }, /epsilon must be a finite number of at least 0, not -1/],
    [{ epsilon: NaN }, /epsilon .* not NaN/],
  ];
  for (const [options, message] of refused) {
    assert.throws(() => groupAdvantages([1, 2], [0, 0], options), {
      name: "ValidationError",
      message,
    });
  }
  assert.throws(() => whiten([1, 2], { epsilon: NaN }), { message: /epsilon/ });
});
