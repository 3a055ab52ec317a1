import assert from "node:assert/strict";
import {
  addCounts,
  countTests,
  failedTests,
  formatCounts,
  slowFiles,
} from "../../../scripts/junit.ts";

/** What Deno 2.9 writes for a good test, an ignored one, and one whose failure quotes a tag. */
const report = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="3" failures="1" errors="0" time="0.013">
    <testsuite name="./a_test.ts" tests="3" disabled="1" errors="0" failures="1">
        <testcase name="ok &lt;a&gt;" classname="./a_test.ts" time="0.000" line="1" col="6">
        </testcase>
        <testcase name="ign" classname="./a_test.ts" time="0.000" line="2" col="6">
            <skipped/>
        </testcase>
        <testcase name="bad &quot;one&quot;" classname="./a_test.ts" time="0.001" line="3" col="6">
            <failure message="x &lt;testcase/&gt; &lt;skipped/&gt;">Error: 1 &lt; 2 &amp; so
at file:///a_test.ts</failure>
        </testcase>
    </testsuite>
</testsuites>
`;

Deno.test("a report's tests are counted by how they ended", () => {
  assert.deepEqual(countTests(report), { passed: 1, failed: 1, skipped: 1 });
});

Deno.test("a report that is empty or cut off counts as a failed test", () => {
  const failed = { passed: 0, failed: 1, skipped: 0 };
  assert.deepEqual(countTests(""), failed);
  assert.deepEqual(countTests(report.slice(0, report.length / 2)), failed);
  assert.deepEqual(countTests("<testsuites></testsuites>\n"), failed);
});

Deno.test("a report tells which tests failed and the first lines of why", () => {
  const [failure, ...others] = failedTests(report);
  assert.deepEqual(failure, {
    name: 'bad "one"',
    reason: "Error: 1 < 2 & so\nat file:///a_test.ts",
  });
  assert.deepEqual(others, []);
  assert.equal(failedTests(report, 1)[0]!.reason, "Error: 1 < 2 & so");
});

Deno.test("the summary adds all reports", () => {
  const counts = countTests(report);
  assert.equal(formatCounts(addCounts([counts, counts])), "2 passed, 2 failed, 2 skipped");
  assert.equal(formatCounts(addCounts([])), "0 passed, 0 failed, 0 skipped");
});

Deno.test("files that took longer than told are found, the slowest first", () => {
  const suite = (name: string, seconds: number) =>
    `<testsuite name="./tests/${name}_test.ts" tests="1" disabled="0" errors="0" failures="0" ` +
    `time="${seconds}"><testcase name="a" time="9"></testcase></testsuite>`;
  const xml = `<testsuites tests="3" time="99">${suite("a", 2)}${suite("b", 7.5)}${
    suite("c", 30)
  }</testsuites>`;
  assert.equal(slowFiles(xml, 5).join(" "), "./tests/c_test.ts ./tests/b_test.ts");
  assert.equal(slowFiles(xml, 30).join(" "), "");
});
