import fc from "fast-check";
import { SGLangError } from "../../../src/errors.ts";
import { targets } from "../../fuzz/targets.ts";

/** What is done at night is in scripts/fuzz.ts. */
const RUNS = 1000;

const onlyOurs = async (run: () => unknown) => {
  try {
    await run();
  } catch (error) {
    if (!(error instanceof SGLangError)) throw error;
  }
};

for (const { name, property, weight } of targets(onlyOurs)) {
  Deno.test(`whatever comes as ${name} is read or refused with an error of ours`, async () => {
    await fc.assert(property, { numRuns: RUNS / weight });
  });
}
