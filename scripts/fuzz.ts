/**
 * Gives every reader of this library many mutated inputs. Fails when one throws an error that is not
 * of the library, or takes more of the processor or of the memory than it may. Garbage is collected now
 * and then, so that what is told of the memory is what an input takes, and what all of them leave.
 *
 *     deno task fuzz [--runs 100000] [--only WORD]
 */
import fc from "fast-check";
import { SGLangError } from "../src/errors.ts";
import { usedMs } from "../tests/_support/processor_time.ts";
import { targets } from "../tests/fuzz/targets.ts";

/** A template may take a second; what the processor does beside it counts too. */
const SLOWEST_MS = 1500;
/** What one input may take, and what all inputs of a reader may leave behind. */
const MOST_MIB = 256;
/** Inputs between two collections. */
const COLLECT_EVERY = 500;

function option(name: string): string | undefined {
  const at = Deno.args.indexOf(name);
  return at < 0 ? undefined : Deno.args[at + 1];
}

const runs = Number(option("--runs") ?? 100_000);
const only = option("--only") ?? "";
const { gc } = globalThis as { gc?: () => void };
const rssMiB = () => Deno.memoryUsage().rss / 2 ** 20;
let slowest = 0;
let most = 0;
let count = 0;
const check = async (run: () => unknown) => {
  if (count++ % COLLECT_EVERY === 0) gc?.();
  const started = usedMs();
  const before = rssMiB();
  try {
    await run();
  } catch (error) {
    if (!(error instanceof SGLangError)) throw error;
  } finally {
    slowest = Math.max(slowest, usedMs() - started);
    most = Math.max(most, rssMiB() - before);
  }
};
let failed = false;
for (const { name, property, weight } of targets(check)) {
  if (!name.includes(only)) continue;
  slowest = most = 0;
  const started = performance.now();
  gc?.();
  const before = rssMiB();
  const result = await fc.check(property, { numRuns: Math.ceil(runs / weight) });
  gc?.();
  const left = rssMiB() - before;
  const isBad = result.failed || slowest > SLOWEST_MS || most > MOST_MIB || left > MOST_MIB;
  failed ||= isBad;
  // deno-lint-ignore no-console
  console.log(
    `${isBad ? "FAILED" : "ok"} ${name}: ${result.numRuns} inputs in ` +
      `${((performance.now() - started) / 1000).toFixed(1)} s, slowest ${slowest.toFixed(1)} ms, ` +
      `most memory ${most.toFixed(1)} MiB, left ${left.toFixed(1)} MiB` +
      (result.failed ? `\n${await fc.asyncDefaultReportMessage(result)}` : ""),
  );
}
if (failed) Deno.exitCode = 1;
