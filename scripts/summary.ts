/**
 * Prints the sum of JUnit reports as its last line: `N passed, N failed, N skipped`.
 *
 * Run as `deno run --allow-read scripts/summary.ts REPORT...`; ends with 1 when a test failed.
 */
// deno-lint-ignore-file no-console
import { addCounts, countTests, formatCounts, type TestCounts } from "./junit.ts";

async function read(path: string): Promise<TestCounts> {
  try {
    const counts = countTests(await Deno.readTextFile(path));
    console.log(`${path}: ${formatCounts(counts)}`);
    return counts;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.error(`${path}: there is no such report; it counts as a failed test`);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}

if (import.meta.main) {
  if (Deno.args.length === 0) {
    console.error("usage: summary.ts REPORT...");
    Deno.exit(2);
  }
  const total = addCounts(await Promise.all(Deno.args.map(read)));
  console.log(formatCounts(total));
  Deno.exitCode = total.failed > 0 ? 1 : 0;
}
