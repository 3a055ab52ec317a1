import assert from "node:assert/strict";
import fc from "fast-check";
import { compareRuns, machineName, SLOWER } from "../../../scripts/bench/compare.ts";

const row = (name: string, ratio: number) => ({ name, ratio, figures: "figures" });

Deno.test("what got slower by more than 1.3 times is named, and nothing else", () => {
  const ratio = fc.double({ min: 0.01, max: 100, noNaN: true });
  fc.assert(fc.property(fc.array(fc.tuple(ratio, ratio), { maxLength: 9 }), (pairs) => {
    const before = pairs.map(([old], i) => row(`row ${i}`, old));
    const now = pairs.map(([, one], i) => row(`row ${i}`, one));
    const { slower, apart } = compareRuns(before, now);
    const wanted = pairs.flatMap(([old, one], i) => one > SLOWER * old ? [`row ${i}`] : []);
    assert.deepEqual(slower.map((line) => line.split(":")[0]), wanted);
    assert.deepEqual(apart, []);
  }));
});

Deno.test("rows that only one of two runs has are told apart", () => {
  const { slower, apart } = compareRuns([row("gone", 1), row("kept", 1)], [
    row("kept", 1.2),
    row("new", 9),
  ]);
  assert.deepEqual(slower, []);
  assert.deepEqual(apart, ["new: not measured before", "gone: not measured now"]);
});

Deno.test("runs are kept by processor, cores and Deno", () => {
  const info = "processor : 0\nmodel name\t: Some CPU @ 2 GHz\nflags : x\n";
  assert.equal(machineName(info, 2, "2.9.6"), "Some CPU @ 2 GHz, 2 cores, Deno 2.9.6");
  assert.equal(machineName("", 2, "2.9.6"), "unknown processor, 2 cores, Deno 2.9.6");
});
