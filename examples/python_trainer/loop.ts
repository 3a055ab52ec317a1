/** Rollouts in Deno, training in Python: the loop between them. */
import { join } from "node:path";
import {
  type AsyncSGLang,
  LLMCollector,
  promptEnvironment,
  safetensors,
  SGLangWeightSyncScheme,
  SGLangWrapper,
} from "@sglang-rl/sglang-rl";
import { toJsonLines, writeRollout } from "@sglang-rl/sglang-rl/collector";
import { TrainerLink } from "@sglang-rl/sglang-rl/trainer";
import { TrainerProcess, type TrainerStep } from "./trainer_process.ts";

/** Options of {@linkcode trainWithPython}. */
export interface TrainOptions {
  /** The servers; they serve `checkpoint`. */
  readonly engine: AsyncSGLang;
  /** Folder of the checkpoint. */
  readonly checkpoint: string;
  /** Python with torch, transformers and safetensors. */
  readonly python: string;
  /** Folder for batches and weights. */
  readonly workFolder: string;
  /** Steps to take. */
  readonly steps: number;
  /** The trainer's step size. Default 0.005. */
  readonly learningRate?: number | undefined;
  /**
   * How rows travel: files of that format, with the weights as a file too, or both over a link.
   * Default safetensors.
   */
  readonly format?: "safetensors" | "jsonl" | "link" | undefined;
  /** Ends everything. */
  readonly signal?: AbortSignal | undefined;
}

/** Prompts; four dialogs each make a batch. */
const prompts = Array.from({ length: 16 }, (_, i) => `What comes after ${i}?`);

/** The goal: how much of what the model says is the letter e. */
export function rewardOf(text: string): number {
  return text === "" ? 0 : (text.match(/e/gi)?.length ?? 0) / text.length;
}

/** Collects, trains and syncs, step by step; yields what the trainer says. */
export async function* trainWithPython(options: TrainOptions): AsyncGenerator<TrainerStep> {
  const { engine, checkpoint, workFolder, steps, format = "safetensors", signal } = options;
  await using link = format === "link"
    ? await TrainerLink.listen(`unix:${join(workFolder, "trainer.sock")}`)
    : undefined;
  await using trainer = await TrainerProcess.start({ ...options, link: link?.address });
  const environments = Array.from({ length: 64 }, (_, i) =>
    promptEnvironment({
      prompts: [prompts[i % prompts.length]!],
      reward: ({ message }) => rewardOf(String(message.content)),
    }));
  const policy = new SGLangWrapper(engine, {
    generateKwargs: { maxNewTokens: 12, temperature: 1, ignoreEos: true },
    tokenizer: checkpoint,
  });
  await using collector = new LLMCollector(environments, {
    policy,
    dialogTurnsPerBatch: environments.length,
    trackPolicyVersion: true,
    signal,
  });
  const scheme = new SGLangWeightSyncScheme({ engine });
  await using sender = scheme.createSender();
  sender.registerCollector(collector);
  await sender.initAllWorkersGroup();
  // Whatever the servers hold, both sides begin with the same weights.
  await sender.updateWeights(safetensors(checkpoint), { signal });
  for (let step = 0; step < steps; step++) {
    const batch = (await collector.rollout({ signal }))!;
    if (link !== undefined) {
      // The trainer takes the rows, steps, and answers once the servers have its weights.
      const [told] = await Promise.all([
        trainer.step(step),
        link.sendBatch(batch, { signal }),
        link.syncNext(sender, { signal }),
      ]);
      yield told;
      continue;
    }
    const batchFile = join(workFolder, `batch-${step}.${format}`);
    if (format === "jsonl") await Deno.writeTextFile(batchFile, toJsonLines(batch));
    else await writeRollout(batchFile, batch);
    const weights = join(workFolder, `weights-${step}.safetensors`);
    const told = await trainer.step(step, { batch: batchFile, weights });
    await sender.updateWeights(safetensors(weights), { signal });
    yield told;
    await Promise.all([batchFile, weights].map((file) => Deno.remove(file)));
  }
}
