/** GRPO: groups in Deno, training in Python, a sync each step, and a state to go on from. */
import { join } from "node:path";
import {
  type AsyncSGLang,
  LLMCollector,
  safetensors,
  SGLangWeightSyncScheme,
  SGLangWrapper,
} from "@sglang-rl/sglang-rl";
import { type RolloutBatch, writeRollout } from "@sglang-rl/sglang-rl/collector";
import { datasetOf } from "@sglang-rl/sglang-rl/datasets";
import { EnvironmentPool, promptEnvironment } from "@sglang-rl/sglang-rl/environments";
import type { ScalarSink } from "@sglang-rl/sglang-rl/sinks";
import { compareLogProbs, grpo, mismatchAlarms } from "@sglang-rl/sglang-rl/training";
import { TrainerProcess } from "../python_trainer/trainer_process.ts";

/** Options of {@linkcode trainGrpo}. */
export interface GrpoOptions {
  /** The servers; they serve `checkpoint`. */
  readonly engine: AsyncSGLang;
  /** Folder of the checkpoint to begin with. */
  readonly checkpoint: string;
  /** Python with torch, transformers and safetensors. */
  readonly python: string;
  /** Folder of the run: what is in it is gone on with. */
  readonly runFolder: string;
  /** Steps to take in all, those before a restart included. */
  readonly steps: number;
  /** The order of the tasks. Default 0. */
  readonly seed?: number | undefined;
  /** The trainer's step size. Default 0.005. */
  readonly learningRate?: number | undefined;
  /** Where the numbers go. */
  readonly sink: ScalarSink;
  /** Ends everything. */
  readonly signal?: AbortSignal | undefined;
}

/** What a step came to. */
export interface GrpoStep {
  readonly step: number;
  readonly reward: number;
  readonly loss: number;
  /** KL between servers and trainer before the step. */
  readonly k3: number;
  readonly effectiveSampleSize: number;
  readonly alarms: readonly string[];
}

/** What is written down after each step, together with the trainer's file of that step. */
interface Saved {
  readonly step: number;
  readonly collector: ReturnType<LLMCollector["state"]>;
}

const GROUP_SIZE = 4;
const ROWS = 64;

/** The goal: how much of what the model says is the letter e. */
export function rewardOf(text: string): number {
  return text === "" ? 0 : (text.match(/e/gi)?.length ?? 0) / text.length;
}

/** Collects groups, trains and syncs, step by step. Killed at any moment, the next run goes on. */
export async function* trainGrpo(options: GrpoOptions): AsyncGenerator<GrpoStep> {
  const { engine, checkpoint, runFolder, steps, seed = 0, sink, signal } = options;
  const file = (name: string, step: number) => join(runFolder, `${name}-${step}`);
  const statePath = join(runFolder, "state.json");
  const saved: Saved | null = await Deno.readTextFile(statePath).then(JSON.parse, () => null);
  const from = saved?.step ?? 0;
  await using trainer = await TrainerProcess.start({
    ...options,
    program: new URL("trainer.py", import.meta.url),
    args: saved === null ? [] : [`--resume=${file("trainer.pt", from)}`],
  });
  const questions = Array.from({ length: 64 }, (_, i) => `What comes after ${i}?`);
  await using dataset = (await datasetOf(questions)).shuffle(seed).repeat(Infinity);
  const make = () =>
    promptEnvironment({
      prompts: dataset,
      reward: ({ message }) => rewardOf(String(message.content)),
    });
  await using collector = new LLMCollector(new EnvironmentPool(make, { size: ROWS }), {
    policy: new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 12, temperature: 1, ignoreEos: true },
      tokenizer: checkpoint,
    }),
    dialogTurnsPerBatch: ROWS,
    groupSize: GROUP_SIZE,
    maxStaleness: 1,
    onStale: "retry",
    signal,
  });
  if (saved !== null) collector.restore(saved.collector);
  await using sender = new SGLangWeightSyncScheme({ engine }).createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  // Whatever the servers hold, both sides begin with the same weights.
  const first = saved === null ? checkpoint : file("weights.safetensors", from);
  await sender.updateWeights(safetensors(first), { signal });
  for (let step = from + 1; step <= steps; step++) {
    const batch = (await collector.rollout({ signal }))!;
    const rewards = batch.rows.map((row) => row.reward);
    const advantages = grpo(rewards, batch.rows.map((row) => row.group));
    await writeRollout(file("batch.safetensors", step), batch);
    const told = await trainer.step(step, {
      batch: file("batch.safetensors", step),
      weights: file("weights.safetensors", step),
      checkpoint: file("trainer.pt", step),
      advantages: [...advantages],
    });
    await sender.updateWeights(safetensors(file("weights.safetensors", step)), { signal });
    const state: Saved = { step, collector: collector.state() };
    await Deno.writeTextFile(`${statePath}.tmp`, JSON.stringify(state));
    await Deno.rename(`${statePath}.tmp`, statePath);
    await Promise.all(
      [
        file("batch.safetensors", step),
        file("weights.safetensors", step - 1),
        file("trainer.pt", step - 1),
      ]
        .map((path) => Deno.remove(path).catch(() => {})),
    );
    const report = compareLogProbs(scored(batch, told.trained!));
    const { k3, effectiveSampleSize } = report;
    const reward = rewards.reduce((sum, value) => sum + value, 0) / rewards.length;
    const { loss } = told;
    await sink.log(step, { reward, loss, k3, effectiveSampleSize });
    // Groups that were begun before a sync are a step behind, which is more than kernels differ.
    const alarms = mismatchAlarms(report, { k3: 0.1, effectiveSampleSize: 0.8 });
    yield { step, reward, loss, k3, effectiveSampleSize, alarms };
  }
}

function scored(batch: RolloutBatch, trained: readonly (readonly number[])[]) {
  return batch.rows.map((row, i) => ({ sampled: row.logProbs!, trained: trained[i]! }));
}
