/**
 * Gives every reader of this library many mutated inputs. Fails when one throws an error that is not
 * of the library, uses the processor for longer than it may, or when the memory of the process grows too much.
 *
 *     deno task fuzz [--runs 100000] [--only WORD]
 */
import fc from "fast-check";
import { SGLangError } from "../src/errors.ts";
import { usedMs } from "../tests/_support/processor_time.ts";
import { targets } from "../tests/fuzz/targets.ts";

/** A template may take a second; what the processor does beside it counts too. */
const SLOWEST_MS = 1500;
const MOST_MIB = 1024;

function option(name: string): string | undefined {
  const at = Deno.args.indexOf(name);
  return at < 0 ? undefined : Deno.args[at + 1];
}

const runs = Number(option("--runs") ?? 100_000);
const only = option("--only") ?? "";
let slowest = 0;
const check = async (run: () => unknown) => {
  const started = usedMs();
  try {
    await run();
  } catch (error) {
    if (!(error instanceof SGLangError)) throw error;
  } finally {
    slowest = Math.max(slowest, usedMs() - started);
  }
};
let failed = false;
for (const { name, property, weight } of targets(check)) {
  if (!name.includes(only)) continue;
  slowest = 0;
  const started = performance.now();
  const result = await fc.check(property, { numRuns: Math.ceil(runs / weight) });
  const mib = Deno.memoryUsage().rss / 2 ** 20;
  const isBad = result.failed || slowest > SLOWEST_MS || mib > MOST_MIB;
  failed ||= isBad;
  // deno-lint-ignore no-console
  console.log(
    `${isBad ? "FAILED" : "ok"} ${name}: ${result.numRuns} inputs in ` +
      `${((performance.now() - started) / 1000).toFixed(1)} s, slowest ${slowest.toFixed(1)} ms, ` +
      `RSS ${mib.toFixed(0)} MiB` +
      (result.failed ? `\n${await fc.asyncDefaultReportMessage(result)}` : ""),
  );
}
if (failed) Deno.exitCode = 1;
