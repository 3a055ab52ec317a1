/**
 * Runs the unit tests many times, also beside busy processes, and names every test that failed in any
 * of the runs: a test that fails sometimes is found by repetition only.
 *
 * `deno task test:repeat [--times N] [--load N] [--seconds S] [--keep FOLDER] [PATH...]`
 *
 * - `--times`: runs; 20 unless told.
 * - `--load`: busy processes beside the tests; 0 unless told.
 * - `--seconds`: files that took longer in the first run are left out of the others, and named.
 * - `--keep`: a folder for the reports and the output of runs that failed; they are thrown away
 *   unless told.
 *
 * Ends with 1 when a test failed. Only what it started is ended.
 */
// deno-lint-ignore-file no-console -- it reports to a terminal
import { join } from "node:path";
import { parseArgs } from "node:util";
import { countTests, failedTests, formatCounts, slowFiles } from "./junit.ts";

/** A run without an end is a failure too. */
const WALL_SECONDS = 3600;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    times: { type: "string", default: "20" },
    load: { type: "string", default: "0" },
    seconds: { type: "string" },
    keep: { type: "string" },
  },
});
const times = wholeNumber("--times", values.times, 1);
const load = wholeNumber("--load", values.load, 0);
const most = values.seconds === undefined ? undefined : wholeNumber("--seconds", values.seconds, 1);

await using _busy = keepBusy(load);
const folder = values.keep ?? await Deno.makeTempDir({ prefix: "test-repeat-" });
await Deno.mkdir(folder, { recursive: true });
const failures = new Map<string, number>();
const leftOut = new Set<string>();
let failedRuns = 0;
for (let run = 1; run <= times; run++) {
  const started = performance.now();
  const { xml, success, output } = await runOnce(run);
  const counts = countTests(xml);
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  const [busyness] = Deno.loadavg();
  console.log(
    `run ${run} of ${times}: ${formatCounts(counts)}, ${seconds} s, load ${busyness!.toFixed(1)}`,
  );
  if (!success || counts.failed > 0) {
    failedRuns++;
    await Deno.writeTextFile(join(folder, `run-${run}.log`), output);
    const failed = failedTests(xml);
    for (const { name, reason } of failed) {
      failures.set(name, (failures.get(name) ?? 0) + 1);
      console.log(`  failed: ${name}\n    ${reason.replaceAll("\n", "\n    ")}`);
    }
    if (failed.length === 0) console.log(output.split("\n").slice(-20).join("\n"));
  }
  if (run === 1 && most !== undefined) {
    for (const file of slowFiles(xml, most)) leftOut.add(file.replace(/^\.\//, ""));
    if (leftOut.size > 0) console.log(`from now on without ${[...leftOut].join(" ")}`);
  }
}
if (values.keep === undefined) await Deno.remove(folder, { recursive: true });
console.log(
  `test:repeat: ${times - failedRuns} of ${times} runs are green beside ${load} busy ones`,
);
for (const [name, count] of failures) console.log(`  failed ${count} times: ${name}`);
Deno.exitCode = failedRuns > 0 ? 1 : 0;

async function runOnce(run: number): Promise<{ xml: string; success: boolean; output: string }> {
  const report = join(folder, `run-${run}.xml`);
  const { success, stdout, stderr } = await new Deno.Command("timeout", {
    args: [
      "-s",
      "KILL",
      String(WALL_SECONDS),
      Deno.execPath(),
      "test",
      "-P=unit",
      "--preload=tests/_support/patient_deadlines.ts",
      // Types do not differ from run to run.
      "--no-check",
      "--parallel",
      `--junit-path=${report}`,
      ...(leftOut.size > 0 ? [`--ignore=${[...leftOut].join(",")}`] : []),
      ...(positionals.length > 0 ? positionals : ["tests/unit"]),
    ],
    env: { NO_COLOR: "1" },
  }).output();
  const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
  return { xml: await Deno.readTextFile(report).catch(() => ""), success, output };
}

/** So many processes that use a processor as far as they may. */
function keepBusy(count: number): AsyncDisposable {
  // The loop looks whether its parent is still there, so that none is left when this is killed.
  const loop =
    'while kill -0 "$0" 2>/dev/null; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; done';
  const children = Array.from(
    { length: count },
    () => new Deno.Command("sh", { args: ["-c", loop, String(Deno.pid)] }).spawn(),
  );
  return {
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill("SIGKILL");
      await Promise.all(children.map((child) => child.status));
    },
  };
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= least) return value;
  console.error(`test:repeat: ${name} must be a whole number of at least ${least}, not "${text}"`);
  Deno.exit(2);
}
