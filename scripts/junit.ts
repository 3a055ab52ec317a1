/** How many tests passed, failed and were skipped. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/**
 * Counts the test cases of a JUnit report as `deno test --junit-path` writes it. A report that is cut
 * off, or holds none, counts as one failed test, so that it can't pass for a good one.
 */
export function countTests(xml: string): TestCounts {
  if (!xml.trimEnd().endsWith("</testsuites>")) return { passed: 0, failed: 1, skipped: 0 };
  const cases = testCases(xml);
  if (cases.length === 0) return { passed: 0, failed: 1, skipped: 0 };
  const failed = cases.filter((text) => /<(failure|error)[\s>/]/.test(text)).length;
  const skipped = cases.filter((text) => text.includes("<skipped")).length;
  return { passed: cases.length - failed - skipped, failed, skipped };
}

/** A test that failed and why. */
export interface TestFailure {
  readonly name: string;
  /** The first lines of what was thrown. */
  readonly reason: string;
}

/** The failed tests of a JUnit report, with at most `lines` lines of each reason, none of them long. */
export function failedTests(xml: string, lines = 12): TestFailure[] {
  return testCases(xml).flatMap((text) => {
    const name = /^name="([^"]*)"/.exec(text)?.[1] ?? "";
    const reason = /<(?:failure|error)[^>]*>([^<]*)/.exec(text)?.[1];
    if (reason === undefined) return [];
    const first = plain(reason).split("\n", lines).map((line) => line.slice(0, 300));
    return [{ name: plain(name), reason: first.join("\n") }];
  });
}

/** The test files of a report that took longer than `seconds`, the slowest first. */
export function slowFiles(xml: string, seconds: number): string[] {
  return [...xml.matchAll(/<testsuite name="([^"]*)"[^>]*?\stime="([\d.]+)"/g)]
    .map(([, name, time]) => ({ name: plain(name!), time: Number(time) }))
    .filter(({ time }) => time > seconds)
    .sort((a, b) => b.time - a.time)
    .map(({ name }) => name);
}

/** The test cases of a report. Names and messages are escaped, so a tag in the text is a tag. */
function testCases(xml: string): string[] {
  return xml.split("<testcase ").slice(1);
}

/** Text without the escapes of XML. */
function plain(text: string): string {
  const characters: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(/&(lt|gt|quot|apos|amp);/g, (_, name) => characters[name]!);
}

/** The counts of all. */
export function addCounts(counts: readonly TestCounts[]): TestCounts {
  return counts.reduce((sum, next) => ({
    passed: sum.passed + next.passed,
    failed: sum.failed + next.failed,
    skipped: sum.skipped + next.skipped,
  }), { passed: 0, failed: 0, skipped: 0 });
}

/** `N passed, N failed, N skipped`. */
export function formatCounts({ passed, failed, skipped }: TestCounts): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`;
}
