/**
 * A run that may be killed at any moment: groups of tasks of a dataset, whose rows are appended to a
 * file; a state that says how much of the file counts is renamed into its place. Or its rows go into a
 * replay buffer, which is saved beside a state that names the file. Prints a word at each step and goes
 * on when it reads a byte, so that who started it can kill it anywhere between two.
 *
 *     deno run -A _killed_run.ts FOLDER file|buffer
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { setImmediate } from "node:timers";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import {
  type CollectorState,
  LLMCollector,
  type LLMCollectorOptions,
  ReplayBuffer,
  type RolloutBatch,
  writeJsonLines,
} from "../../../src/collector/mod.ts";
import { jsonLinesDataset } from "../../../src/datasets/mod.ts";
import { fakePolicy } from "./_fakes.ts";

/** What is written down after each batch. */
interface Saved {
  readonly collector: CollectorState;
  /** How much of the file of rows counts. */
  readonly bytes: number;
  /** Name of the saved buffer. */
  readonly buffer: string;
}

async function step(word: string): Promise<void> {
  console.log(word);
  if (word !== "end") await Deno.stdin.read(new Uint8Array(1));
}

async function save(state: Saved): Promise<void> {
  await Deno.writeTextFile(`${statePath}.tmp`, JSON.stringify(state));
  await step("state");
  await Deno.rename(`${statePath}.tmp`, statePath);
  await step("saved");
}

const [folder, way] = Deno.args as [string, string];
const statePath = join(folder, "state.json");
const saved: Saved | null = await Deno.readTextFile(statePath).then(JSON.parse, () => null);
await using dataset = (await jsonLinesDataset(join(folder, "tasks.jsonl"))).shuffle(11).repeat(2);
await (way === "file" ? runWithFile() : runWithBuffer());
await step("end");

async function runWithFile(): Promise<void> {
  const rowsPath = join(folder, "rows.jsonl");
  await Deno.writeFile(rowsPath, new Uint8Array(), { append: true });
  // What was written after the state was saved does not count: its tasks are run again.
  await Deno.truncate(rowsPath, saved?.bytes ?? 0);
  await using collector = makeCollector<RolloutBatch>({});
  if (saved !== null) collector.restore(saved.collector);
  await step("begin");
  for await (const batch of collector) {
    await step("batch");
    await writeJsonLines(rowsPath, batch, { append: true });
    await step("rows");
    collector.incrementVersion();
    const { size } = await Deno.stat(rowsPath);
    await save({ collector: collector.state(), bytes: size, buffer: "" });
  }
}

async function runWithBuffer(): Promise<void> {
  const buffer = new ReplayBuffer({ capacity: 10_000 });
  await using collector = makeCollector<null>({ replayBuffer: buffer });
  if (saved !== null) {
    collector.restore(saved.collector);
    await buffer.restore(join(folder, saved.buffer));
  }
  await step("begin");
  for await (const _ of collector) {
    await step("rows");
    collector.incrementVersion();
    // The two belong together: nothing is awaited between them.
    const state = collector.state();
    const name = `buffer-${crypto.randomUUID()}.jsonl`;
    const saving = buffer.save(join(folder, name));
    await step("saving");
    await saving;
    await step("buffer");
    await save({ collector: state, bytes: 0, buffer: name });
  }
}

function makeCollector<Item>(options: Partial<LLMCollectorOptions<Item>>): LLMCollector<Item> {
  const groupSize = 2;
  let failures = 0;
  const make = () =>
    promptEnvironment({
      prompts: dataset,
      promptOf: ({ question }) => String(question),
      reward: () => {
        // Some members fail and are run again; some dialogs end far behind others.
        if (Math.random() < 0.05) throw new Error(`grader lost ${failures++}`);
        return Math.random();
      },
    });
  return new LLMCollector<Item>(new EnvironmentPool(make, { size: 16 }), {
    policy: fakePolicy(async () => {
      const steps = Math.random() < 0.1 ? 300 : 5;
      for (let i = 0; i < steps; i++) await new Promise((resolve) => setImmediate(resolve));
    }),
    dialogTurnsPerBatch: 8,
    totalDialogs: dataset.tasks * groupSize,
    groupSize,
    maxGroupRefills: 100,
    onDialogError: "skip",
    overSample: 1,
    maxStaleness: 2,
    onStale: "retry",
    prefetchBatches: 3,
    ...options,
  });
}
