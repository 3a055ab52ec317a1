// deno-lint-ignore-file no-console -- it reports to a terminal
/**
 * Changes the sources in small ways, one at a time, and runs the nearest unit tests: a change that no
 * test notices is a survivor. Survivors that are known are in scripts/mutate/survivors.json, each with
 * the reason why it may live.
 *
 * `deno task mutate [--short] [--sample N] [--jobs N] [PATH...]`
 */
import { parseArgs } from "node:util";
import { type Mutant, mutantsOf } from "./mutate/mutants.ts";
import { NAMED } from "./mutate/named.ts";
import { Sandbox } from "./mutate/sandbox.ts";
import { testsOf } from "./mutate/targets.ts";

const SURVIVORS = new URL("mutate/survivors.json", import.meta.url);

/** One change to try. */
interface Trial {
  readonly path: string;
  readonly name: string;
  readonly text: string;
  readonly tests: readonly string[];
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    short: { type: "boolean", default: false },
    sample: { type: "string", default: "300" },
    jobs: { type: "string", default: "2" },
  },
});

const trials = await namedTrials();
if (!values.short) trials.push(...await sampledTrials(positionals, Number(values.sample)));
const known = new Map<string, string>(
  Object.entries(JSON.parse(await Deno.readTextFile(SURVIVORS))),
);
await requirePassing(trials);
const survivors = await run(trials, Number(values.jobs));
const unknown = survivors.filter((name) => !known.has(name));
console.log(
  `mutate: ${trials.length} changes, ${trials.length - survivors.length} noticed, ` +
    `${survivors.length - unknown.length} known survivors, ${unknown.length} new ones`,
);
if (unknown.length > 0) Deno.exit(1);

/** The changes that once lived; one that does not fit the source any more is an error. */
async function namedTrials(): Promise<Trial[]> {
  return await Promise.all(NAMED.map(async ({ what, path, find, replace, tests }) => {
    const source = await Deno.readTextFile(path);
    if (source.split(find).length !== 2) {
      throw new Error(`${path} has not once \`${find}\`: bring scripts/mutate/named.ts up to date`);
    }
    return { path, name: what, text: source.replace(find, () => replace), tests };
  }));
}

/** So many changes of the sources at `paths`, spread evenly and the same in every run. */
async function sampledTrials(paths: readonly string[], count: number): Promise<Trial[]> {
  const all: Trial[] = [];
  for (const path of await sources(paths.length > 0 ? paths : ["src/weights", "src/policy"])) {
    const tests = testsOf(path);
    if (tests === undefined) continue;
    for (const mutant of mutantsOf(await Deno.readTextFile(path))) {
      all.push({ path, name: nameOf(path, mutant), text: mutant.text, tests });
    }
  }
  const step = Math.max(1, all.length / count);
  return Array.from({ length: Math.min(count, all.length) }, (_, i) => all[Math.floor(i * step)]!);
}

function nameOf(path: string, mutant: Mutant): string {
  return `${path}: ${mutant.name}`;
}

async function sources(paths: readonly string[]): Promise<string[]> {
  const { stdout } = await new Deno.Command("git", { args: ["ls-files", "--", ...paths] }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((path) => path.endsWith(".ts"));
}

/** Without a change all tests must pass, or every change would seem to be noticed. */
async function requirePassing(all: readonly Trial[]): Promise<void> {
  await using sandbox = await Sandbox.create();
  const tests = [...new Set(all.flatMap((trial) => trial.tests))];
  // All tests of all changes in one run, on a machine that may have much else to do.
  if (!await sandbox.passes(tests, 10)) {
    throw new Error(`Without any change these tests fail already: ${tests.join(" ")}`);
  }
}

/** Tries all; tells of each survivor as it is found. */
async function run(all: readonly Trial[], jobs: number): Promise<string[]> {
  const queue = [...all];
  const survivors: string[] = [];
  let done = 0;
  const worker = async () => {
    await using sandbox = await Sandbox.create();
    for (let trial = queue.shift(); trial !== undefined; trial = queue.shift()) {
      const isKilled = await sandbox.isKilled(trial.path, trial.text, trial.tests);
      done++;
      if (isKilled) continue;
      survivors.push(trial.name);
      console.log(`[${done}/${all.length}] lives: ${trial.name}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return survivors;
}
