/**
 * Runs bench/speed.ts and compares its ratios with the last run of the same machine, kept in
 * bench/results/speed.json. Prints what got slower by more than 1.3 times and fails then. A row that
 * got slower is measured a second time, since a busy machine shifts ratios too.
 *
 * Run as `deno task bench:check [--save] [--rounds 5]`; `--save` keeps this run as the one to compare
 * with, as the first run of a machine does.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { compareRuns, machineName, type SpeedRow, type SpeedRuns } from "./bench/compare.ts";

const { values } = parseArgs({
  options: {
    save: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
  },
});
const program = new URL("../bench/speed.ts", import.meta.url).pathname;
const file = new URL("../bench/results/speed.json", import.meta.url);

async function measure(only = ""): Promise<SpeedRow[]> {
  const json = await Deno.makeTempFile();
  try {
    const { success } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", program, "--rounds", values.rounds, "--json", json, "--only", only],
    }).spawn().status;
    if (!success) Deno.exit(2);
    return JSON.parse(await Deno.readTextFile(json));
  } finally {
    await Deno.remove(json);
  }
}

async function commit(): Promise<string> {
  const { stdout } = await new Deno.Command("git", {
    args: ["describe", "--always", "--dirty"],
  }).output();
  return new TextDecoder().decode(stdout).trim();
}

const runs: SpeedRuns = JSON.parse(await Deno.readTextFile(file).catch(() => "{}"));
const machine = machineName(
  await Deno.readTextFile("/proc/cpuinfo").catch(() => ""),
  navigator.hardwareConcurrency,
  Deno.version.deno,
);
const before = runs[machine];
let rows = await measure();
if (before !== undefined) {
  const first = compareRuns(before.rows, rows);
  if (first.slower.length > 0) {
    console.log("\nslower than before; measured again:");
    // Of two runs each row's better one: what is slower in both is slower.
    const again = new Map((await measure()).map((row) => [row.name, row]));
    rows = rows.map((row) => {
      const other = again.get(row.name);
      return other !== undefined && other.ratio < row.ratio ? other : row;
    });
  }
  const { slower, apart } = compareRuns(before.rows, rows);
  console.log(`\ncompared with ${before.date}, ${before.commit}, on this machine: ${machine}`);
  for (const line of apart) console.log(line);
  for (const line of slower) console.log(`SLOWER ${line}`);
  console.log(`${rows.length} rows, ${slower.length} slower`);
  if (slower.length > 0) Deno.exitCode = 1;
} else console.log(`\nthe first run of this machine: ${machine}`);
if (values.save || before === undefined) {
  const date = new Date().toISOString().slice(0, 10);
  const kept = { ...runs, [machine]: { date, commit: await commit(), rows } };
  await Deno.writeTextFile(file, `${JSON.stringify(kept, null, 2)}\n`);
  console.log("kept in bench/results/speed.json");
}
