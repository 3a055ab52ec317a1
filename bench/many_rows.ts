/**
 * How much memory 100,000 rows take on their way: groups of a collector, the replay buffer, both
 * exports and the reader of both files. Fails above 1 GiB. No server: a policy in the process answers
 * each turn with new arrays, as one that talks to servers does.
 *
 * Run as `deno run -A bench/many_rows.ts [--rows 100000] [--prompt 256] [--answer 128] [--append]`.
 * With `--append` nothing is held: each batch is added to a file, which is read afterwards.
 */
// deno-lint-ignore-file no-console
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { EnvironmentPool, promptEnvironment } from "../src/collector/environments/mod.ts";
import {
  type CollectorPolicy,
  LLMCollector,
  ReplayBuffer,
  RolloutBatch,
  writeJsonLines,
  writeRollout,
} from "../src/collector/mod.ts";
import { readRollout } from "../src/rollout_file/mod.ts";
import { usedMs } from "../tests/_support/processor_time.ts";

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "100000" },
    prompt: { type: "string", default: "256" },
    answer: { type: "string", default: "128" },
    append: { type: "boolean", default: false },
  },
});
const rows = Number(values.rows);
const groupSize = 8;
const LIMIT_MIB = 1024;

const policy: CollectorPolicy = {
  call({ dialog }) {
    const ids = new Int32Array(Number(values.answer)).map((_, i) => (dialog * 31 + i) % 50_000);
    return Promise.resolve({
      // A text of its own for each row, as a server sends it.
      message: { role: "assistant", content: `${dialog} `.repeat(Math.ceil(ids.length / 2)) },
      promptIds: new Int32Array(Number(values.prompt)).fill(dialog % 50_000),
      ids,
      logProbs: new Float32Array(ids.length).fill(-0.5),
      finishReason: { type: "stop", matched: null },
      weightVersion: "default",
      weightVersions: null,
    });
  },
};
const make = () =>
  promptEnvironment({
    prompts: Array.from({ length: 1000 }, (_, i) => `Task number ${i}: ${"think ".repeat(40)}`),
    reward: ({ ids }) => ids[0]! % 7,
  });

/** The most memory that the process ever had, in MiB. */
function peakMib(): number {
  const status = Deno.readTextFileSync("/proc/self/status");
  return Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024;
}

function report(stage: string): void {
  console.log(`${stage.padEnd(44)} peak ${peakMib().toFixed(0)} MiB`);
}

/** Milliseconds of the processor of a sample of 32, the mean of many. */
function sampleMs(buffer: ReplayBuffer): number {
  const count = 2000;
  const started = usedMs();
  for (let i = 0; i < count; i++) buffer.sample(32);
  return (usedMs() - started) / count;
}

const environments = new EnvironmentPool(make, { size: 256 });
const options = {
  policy,
  dialogTurnsPerBatch: 1024,
  totalDialogs: Math.ceil(rows / groupSize) * groupSize,
  groupSize,
  maxStaleness: 1,
} as const;

async function readBack(path: string): Promise<void> {
  let count = 0;
  await using file = await readRollout(path);
  for await (const _ of file) count++;
  report(`${count} rows read from ${file.form}`);
  console.log(`${basename(path)}: ${(Deno.statSync(path).size / 2 ** 20).toFixed(0)} MiB`);
}

/** Rows that go through: what is held is a batch. */
async function append(folder: string): Promise<void> {
  const path = join(folder, "rows.jsonl");
  let count = 0;
  await using collector = new LLMCollector(environments, options);
  for await (const batch of collector) {
    await writeJsonLines(path, batch, { append: true });
    count += batch.length;
  }
  report(`${count} rows through groups into a file`);
  await readBack(path);
}

/** Rows that are held, all at once, by a replay buffer. */
async function hold(folder: string): Promise<void> {
  const buffer = new ReplayBuffer({ capacity: rows });
  {
    await using collector = new LLMCollector(environments, { ...options, replayBuffer: buffer });
    for await (const _ of collector) { /* The buffer has it. */ }
  }
  report(`${buffer.length} rows through groups into the buffer`);
  const ms = sampleMs(buffer);
  report(`a sample of 32 takes ${(ms * 1000).toFixed(1)} us`);
  await write(buffer, folder);
  // What reads is mostly another program.
  buffer.clear();
  for (const { name } of Deno.readDirSync(folder)) await readBack(join(folder, name));
}

async function write(buffer: ReplayBuffer, folder: string): Promise<void> {
  const all = buffer.sample(buffer.length);
  const batch = new RolloutBatch({ rows: all, shape: [all.length], versionNames: ["0"] });
  await writeRollout(join(folder, "rows.safetensors"), batch);
  report("written as safetensors");
  await writeJsonLines(join(folder, "rows.jsonl"), batch);
  report("written as JSON lines");
}

report("start");
const folder = await Deno.makeTempDir();
try {
  await (values.append ? append(folder) : hold(folder));
} finally {
  await Deno.remove(folder, { recursive: true });
}
if (peakMib() > LIMIT_MIB) {
  console.error(`more than ${LIMIT_MIB} MiB`);
  Deno.exitCode = 1;
}
