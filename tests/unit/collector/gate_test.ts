/** Who waits at the gate passes in the order in which they came. */
import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import { Gate } from "../../../src/collector/gate.ts";

/** A gate with so many passages to give, and those who passed. */
function gateWith(tokens: { left: number }) {
  const passed: number[] = [];
  const gate = new Gate(() => tokens.left > 0 && tokens.left-- > 0 ? "pass" : "wait");
  const come = (who: number) =>
    void gate.pass({ environment: who, begins: false }).then(() => passed.push(who));
  return { gate, passed, come };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await Promise.resolve();
}

Deno.test("a newcomer does not overtake who waits, also where a passage became free meanwhile", async () => {
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

Deno.test("where all wait alike one is asked for all, and who passes is the same", async () => {
  const step = fc.record({ what: fc.constantFrom("come", "begin", "free", "room"), by: fc.nat(3) });
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    const run = async (refusal: "wait" | "all wait") => {
      const left = { begin: 0, turn: 0 };
      let asked = 0;
      const passed: number[] = [];
      const gate = new Gate(({ begins }) => {
        asked++;
        const kind = begins ? "begin" : "turn";
        if (left[kind] === 0) return refusal;
        left[kind]--;
        return "pass";
      });
      let most = 0;
      let came = 0;
      for (const { what, by } of steps) {
        asked = 0;
        const before = passed.length;
        if (what === "free") left.begin += by;
        else if (what === "room") left.turn += by;
        else {
          const who = came++;
          void gate.pass({ environment: who, begins: what === "begin" }).then(() =>
            passed.push(who)
          );
        }
        gate.update();
        await settle();
        most = Math.max(most, asked - 2 * (passed.length - before));
      }
      return { passed, most };
    };
    const one = await run("all wait");
    deepEqual(one.passed, (await run("wait")).passed);
    // However many wait: two lines, asked when one comes and at the update.
    equal(one.most <= 5, true);
  }));
});
