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
import { joinSinks, jsonLinesSink, tensorBoardSink } from "@sglang-rl/sglang-rl/sinks";
import { TrainerLink } from "@sglang-rl/sglang-rl/trainer";
import { compareLogProbs, grpo, mismatchAlarms } from "@sglang-rl/sglang-rl/training";
import { TrainerProcess, type TrainerStep } from "../python_trainer/trainer_process.ts";
import { lookUpEnvironments, questions, readAnswer, TURNS } from "./task.ts";

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
  /** How rows and weights travel: as files (default), or over a link. */
  readonly by?: "files" | "link" | undefined;
  /** The order of the tasks. Default 0. */
  readonly seed?: number | undefined;
  /** The trainer's step size. Default 0.005. */
  readonly learningRate?: number | undefined;
  /** Ends everything. */
  readonly signal?: AbortSignal | undefined;
}

/** What a step came to. */
export interface GrpoStep {
  readonly step: number;
  /** Mean over the dialogs of the batch, before the step. */
  readonly reward: number;
  /** Part of the dialogs that called the tool and then answered. */
  readonly lookedUp: number;
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
/** Turns in a batch, and dialogs that run at once. */
const TURNS_PER_BATCH = 64;

/** Collects groups, trains and syncs, step by step. Killed at any moment, the next run goes on. */
export async function* trainGrpo(options: GrpoOptions): AsyncGenerator<GrpoStep> {
  const { engine, checkpoint, runFolder, steps, by = "files", seed = 0, signal } = options;
  const { learningRate = 0.005 } = options;
  const trainerFile = (step: number) => join(runFolder, `trainer-${step}.pt`);
  const statePath = join(runFolder, "state.json");
  const saved: Saved | null = await Deno.readTextFile(statePath).then(JSON.parse, () => null);
  const from = saved?.step ?? 0;
  await using sink = joinSinks(
    // Steps that were noted before a kill and not saved are taken again.
    await tensorBoardSink(runFolder, { purgeStep: from + 1 }),
    await jsonLinesSink(join(runFolder, "numbers.jsonl"), { purgeStep: from + 1 }),
  );
  await using link = by === "link"
    ? await TrainerLink.listen(`unix:${join(runFolder, "trainer.sock")}`)
    : undefined;
  await using trainer = await TrainerProcess.start({
    ...options,
    learningRate,
    link: link?.address,
    program: new URL("trainer.py", import.meta.url),
    args: saved === null ? [] : [`--resume=${trainerFile(from)}`],
  });
  await using dataset = (await datasetOf(questions)).shuffle(seed).repeat(Infinity);
  await using collector = new LLMCollector(lookUpEnvironments(dataset, TURNS_PER_BATCH), {
    policy: new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 8, temperature: 1, ignoreEos: true },
      tokenizer: checkpoint,
      readAnswer,
    }),
    dialogTurnsPerBatch: TURNS_PER_BATCH,
    groupSize: GROUP_SIZE,
    maxTurns: TURNS,
    maxStaleness: 1,
    onStale: "retry",
    signal,
  });
  if (saved !== null) collector.restore(saved.collector);
  await using sender = new SGLangWeightSyncScheme({ engine }).createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();

  /** Has the trainer take a step, or without a batch only hand its weights over, and syncs them. */
  async function train(step: number, batch?: RolloutBatch): Promise<TrainerStep> {
    const request = batch && { advantages: advantagesOf(batch), checkpoint: trainerFile(step) };
    if (link !== undefined) {
      const [told] = await Promise.all([
        trainer.step(step, request),
        batch && link.sendBatch(batch, { signal }),
        link.syncNext(sender, { signal }),
      ]);
      return told;
    }
    const files = {
      batch: join(runFolder, "batch.safetensors"),
      weights: join(runFolder, "weights.safetensors"),
    };
    if (batch !== undefined) await writeRollout(files.batch, batch);
    const told = await trainer.step(step, { ...files, ...request });
    await sender.updateWeights(safetensors(files.weights), { signal });
    return told;
  }

  // Whatever the servers hold, both sides begin with the same weights.
  await train(from);
  for (let step = from + 1; step <= steps; step++) {
    const batch = (await collector.rollout({ signal }))!;
    const { loss, trained } = await train(step, batch);
    const numbers = { ...outcomeOf(batch), loss };
    const report = compareLogProbs(scored(batch, trained!));
    const { k3, effectiveSampleSize } = report;
    await sink.log(step, { ...numbers, k3, effectiveSampleSize });
    const state: Saved = { step, collector: collector.state() };
    await Deno.writeTextFile(`${statePath}.tmp`, JSON.stringify(state));
    await Deno.rename(`${statePath}.tmp`, statePath);
    await removeOthers(runFolder, trainerFile(step));
    // Groups that were begun before a sync are a step behind, which is more than kernels differ.
    const alarms = mismatchAlarms(report, { k3: 0.1, effectiveSampleSize: 0.8 });
    yield { step, ...numbers, k3, effectiveSampleSize, alarms };
  }
}

/** Of the trainer's files only that of the last step is needed; a killed run may have left others. */
async function removeOthers(runFolder: string, kept: string): Promise<void> {
  for await (const { name } of Deno.readDir(runFolder)) {
    const path = join(runFolder, name);
    if (name.startsWith("trainer-") && path !== kept) await Deno.remove(path);
  }
}

/** Rewards are compared within groups; every row of a dialog has the dialog's advantage. */
function advantagesOf(batch: RolloutBatch): number[] {
  const dialogs = batch.trajectories();
  const rewards = dialogs.map(({ rows }) => rows.reduce((sum, row) => sum + row.reward, 0));
  const advantages = grpo(rewards, dialogs.map(({ rows }) => rows[0]!.group));
  const byDialog = new Map(dialogs.map(({ dialog }, i) => [dialog, advantages[i]!]));
  return batch.joined().map(({ dialog }) => byDialog.get(dialog)!);
}

function outcomeOf(batch: RolloutBatch): { reward: number; lookedUp: number } {
  const dialogs = batch.trajectories();
  const reward = batch.rows.reduce((sum, row) => sum + row.reward, 0) / dialogs.length;
  const isWhole = ({ rows }: typeof dialogs[number]) =>
    rows.length === TURNS && !rows[1]!.truncated;
  return { reward, lookedUp: dialogs.filter(isWhole).length / dialogs.length };
}

function scored(batch: RolloutBatch, trained: readonly (readonly number[])[]) {
  return batch.joined().map(({ logProbs, mask, tokenVersions }, i) => ({
    sampled: logProbs!,
    trained: trained[i]!,
    mask,
    tokenVersions,
  }));
}
