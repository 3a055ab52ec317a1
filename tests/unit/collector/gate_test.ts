/** Who waits at the gate passes in the order in which they came. */
import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { Gate } from "../../../src/collector/gate.ts";

/** A gate with so many passages to give, and those who passed. */
function gateWith(tokens: { left: number }) {
  const passed: number[] = [];
  const gate = new Gate(() => tokens.left > 0 && tokens.left-- > 0);
  const come = (who: number) =>
    void gate.pass({ environment: who, begins: false }).then(() => passed.push(who));
  return { gate, passed, come };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

Deno.test("a newcomer does not overtake who waits, also where a request became free meanwhile", async () => {
  const tokens = { left: 0 };
  const { gate, passed, come } = gateWith(tokens);
  come(1);
  tokens.left = 1;
  come(2);
  await settle();
  deepEqual(passed, [1]);
  equal(gate.waiting, 1);
});

Deno.test("whatever comes and is freed in whatever order, passages are in order of arrival", async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.nat(3)), async (steps) => {
    const tokens = { left: 0 };
    const { gate, passed, come } = gateWith(tokens);
    let next = 0;
    for (const step of steps) {
      if (step === 0) tokens.left++;
      else if (step === 1) gate.update();
      else come(next++);
    }
    await settle();
    deepEqual(passed, passed.map((_, i) => i));
  }));
});
