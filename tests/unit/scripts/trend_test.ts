import assert from "node:assert/strict";
import fc from "fast-check";
import { minuteMedians, trendOf } from "../../../scripts/soak/trend.ts";

const line = (count: number, perMinute: number, noise: (i: number) => number = () => 0) =>
  Array.from({ length: count }, (_, i) => ({ minute: i + 0.5, value: perMinute * i + noise(i) }));

Deno.test("the trend of a line is its slope, whatever the slope", () => {
  fc.assert(fc.property(fc.integer({ min: -5000, max: 5000 }), (thousandths) => {
    const { perMinute, from, to } = trendOf(line(20, thousandths / 1000));
    assert.deepEqual([perMinute, from, to], Array(3).fill(thousandths / 1000));
  }));
});

Deno.test("a fifth of the points may be anywhere and the trend stays near", () => {
  const wild = fc.array(fc.double({ min: -1e6, max: 1e6, noNaN: true }), {
    minLength: 4,
    maxLength: 4,
  });
  fc.assert(fc.property(wild, (values) => {
    const points = line(20, 0.1, (i) => 0.2 * Math.sin(i * 7));
    for (const [i, value] of values.entries()) {
      points[5 * i + 2] = { minute: 5 * i + 2.5, value };
    }
    const { perMinute } = trendOf(points);
    assert.ok(Math.abs(perMinute - 0.1) < 0.1, `got ${perMinute}`);
  }));
});

Deno.test("the interval has the true slope 19 times of 20", () => {
  let random = 7;
  const next = () => (random = random * 16807 % 2147483647) / 2147483647 - 0.5;
  let held = 0;
  for (let run = 0; run < 1000; run++) {
    const { from, to } = trendOf(line(20, 0.3, () => next() + next() + next()));
    if (from <= 0.3 && to >= 0.3) held++;
  }
  assert.ok(held >= 930 && held <= 990, `held ${held} times of 1000`);
});

Deno.test("of a minute the middle value counts, and nothing is told of too few points", () => {
  const points = [[0.1, 5], [0.5, 900], [0.9, 6], [1.2, 7]] as const;
  assert.deepEqual(minuteMedians(points.map(([minute, value]) => ({ minute, value }))), [
    { minute: 0.5, value: 6 },
    { minute: 1.5, value: 7 },
  ]);
  const { from, to } = trendOf(line(2, 1));
  assert.deepEqual([from, to], [-Infinity, Infinity]);
});
