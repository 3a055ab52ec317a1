import assert from "node:assert/strict";
import fc from "fast-check";
import { jsonBegin, scanJson } from "../../../src/internal/json.ts";

Deno.test("a scan in slices of any length tells what one at once does", () => {
  const text = fc.oneof(fc.json(), fc.string({ unit: fc.constantFrom(...'{}[]:,"\\a') }));
  const most = fc.record({
    depth: fc.nat(4),
    objects: fc.nat(4),
    names: fc.nat(4),
    items: fc.nat(40),
    texts: fc.nat(40),
  });
  fc.assert(fc.property(text, most, fc.integer({ min: 1, max: 9 }), (text, most, slice) => {
    const scan = jsonBegin();
    let excess = null;
    while (excess === null && scan.at < text.length) {
      excess = scanJson(text, most, scan, Math.min(scan.at + slice, text.length));
    }
    const whole = jsonBegin();
    assert.equal(excess, scanJson(text, most, whole));
    if (excess === null) assert.deepEqual(scan, whole);
  }));
});
