/**
 * Prints what failed in JUnit reports and their sum as the last line:
 * `N passed, N failed, N skipped`. A long log may be cut in its middle, so the failures stand here
 * once more.
 *
 * Run as `deno run --allow-read scripts/summary.ts REPORT...`; ends with 1 when a test failed.
 */
// deno-lint-ignore-file no-console
import { addCounts, countTests, failedTests, formatCounts, type TestCounts } from "./junit.ts";

async function read(path: string): Promise<TestCounts> {
  try {
    const report = await Deno.readTextFile(path);
    for (const { name, reason } of failedTests(report)) console.log(`FAILED: ${name}\n${reason}\n`);
    const counts = countTests(report);
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
