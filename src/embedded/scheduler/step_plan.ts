/** What one step of the scheduler computes. */
import type { Chunk } from "../model/model.ts";
import type { Task } from "./task.ts";

/** Prompt tokens in one step, over all requests. */
const maxPromptRows = 1024;
/** Logits in one step, which bounds the memory for prompt log-probabilities. */
const maxLogits = 1 << 23;

/** The new tokens of one request in a step. */
export interface PlannedChunk {
  readonly task: Task;
  readonly chunk: Chunk;
}

/** Cuts long prompts so that a step stays short and its logits stay small. */
export class StepPlan {
  readonly chunks: PlannedChunk[] = [];
  readonly #vocabSize: number;
  #rows = 0;
  #logits = 0;

  constructor(vocabSize: number) {
    this.#vocabSize = vocabSize;
  }

  /** Whether no further prompt fits. */
  get isFull(): boolean {
    return this.#rows >= maxPromptRows;
  }

  /** Adds the tokens of a request that its cache lacks, or a part of them. */
  add(task: Task): void {
    const cache = task.cache!;
    const left = task.ids.length - cache.length;
    if (this.isFull && left > 1) return;
    const firstWanted = firstWantedRow(task);
    const unwanted = Math.max(0, firstWanted - cache.length);
    const roomForLogits = Math.max(1, Math.floor((maxLogits - this.#logits) / this.#vocabSize));
    const roomForRows = Math.max(1, maxPromptRows - this.#rows);
    const take = Math.min(left, roomForRows, unwanted + roomForLogits);
    const logitsFrom = Math.min(unwanted, take);
    const tokens = task.ids.slice(cache.length, cache.length + take);
    this.chunks.push({ task, chunk: { cache, tokens, logitsFrom, adapter: task.request.adapter } });
    this.#rows += take;
    this.#logits += (take - logitsFrom) * this.#vocabSize;
  }
}

/** Position of the first row whose logits are needed: of the prompt's scores, or the last one. */
function firstWantedRow(task: Task): number {
  const scored = task.request.logProbStart + task.promptLogProbs.length;
  const wantsScores = task.promptLogProbs.length > 0 && scored < task.promptLength;
  return wantsScores ? scored - 1 : task.ids.length - 1;
}
