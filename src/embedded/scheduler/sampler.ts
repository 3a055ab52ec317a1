/**
 * From a row of logits to a token, in the order of SGLang's sampler: penalties and bias, then
 * temperature, then top-k, top-p and min-p on the probabilities.
 * Source: SGLang `srt/layers/sampler.py` and `srt/sampling/penaltylib/`.
 */
import { uniformAt } from "./random.ts";
import type { LogProb, Task } from "./task.ts";

/** A row of log-probabilities, made only when somebody asks. */
export interface Sampled {
  readonly token: number;
  /** `log_softmax` of the row after penalties and temperature. */
  readonly logProbs: LogProbRow | null;
}

/** Log-probabilities of one position. */
export class LogProbRow {
  readonly #scores: Float32Array;
  readonly #logTotal: number;

  constructor(scores: Float32Array) {
    let largest = -Infinity;
    for (let i = 0; i < scores.length; i++) if (scores[i]! > largest) largest = scores[i]!;
    let total = 0;
    for (let i = 0; i < scores.length; i++) total += Math.exp(scores[i]! - largest);
    this.#scores = scores;
    this.#logTotal = largest + Math.log(total);
  }

  /** Log-probability of one token. */
  of(id: number): LogProb {
    return [Math.fround(this.#scores[id]! - this.#logTotal), id];
  }

  /** The `count` likeliest tokens, likeliest first. */
  top(count: number): LogProb[] {
    const scores = this.#scores;
    const best: number[] = [];
    for (let id = 0; id < scores.length; id++) {
      if (best.length === count && scores[id]! <= scores[best[count - 1]!]!) continue;
      let at = best.length;
      while (at > 0 && scores[best[at - 1]!]! < scores[id]!) at--;
      best.splice(at, 0, id);
      if (best.length > count) best.pop();
    }
    return best.map((id) => this.of(id));
  }
}

/** Draws the next token of a task; changes `logits`. */
export function sampleToken(
  task: Task,
  logits: Float32Array,
  eosTokenIds: readonly number[],
): Sampled {
  const { sampling, returnLogProbs } = task.request;
  applyPenalties(task, logits, eosTokenIds);
  const greedy = sampling.topK === 1;
  if (!greedy && sampling.temperature !== 1) {
    for (let i = 0; i < logits.length; i++) logits[i]! /= sampling.temperature;
  }
  const token = greedy ? likeliest(logits) : draw(task, logits);
  return { token, logProbs: returnLogProbs ? new LogProbRow(logits) : null };
}

/**
 * Where additive and repetition penalties meet, SGLang's order is chance (its penalisers are a set
 * of classes); here the additive ones come first.
 */
function applyPenalties(task: Task, logits: Float32Array, eosTokenIds: readonly number[]): void {
  const { sampling } = task.request;
  const { frequencyPenalty, presencePenalty, repetitionPenalty } = sampling;
  if (frequencyPenalty !== 0 || presencePenalty !== 0 || repetitionPenalty !== 1) {
    const counts = new Map<number, number>();
    for (let i = task.promptLength; i < task.ids.length; i++) {
      counts.set(task.ids[i]!, (counts.get(task.ids[i]!) ?? 0) + 1);
    }
    for (const [id, count] of counts) {
      const value = logits[id]! - frequencyPenalty * count - presencePenalty;
      logits[id] = value < 0 ? value * repetitionPenalty : value / repetitionPenalty;
    }
  }
  if (task.outputLength < sampling.minNewTokens) {
    for (const id of eosTokenIds) logits[id] = -Infinity;
    for (const id of sampling.stopTokenIds) logits[id] = -Infinity;
  }
  for (const [id, bias] of sampling.logitBias) logits[id]! += bias;
}

function likeliest(scores: Float32Array): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i]! > scores[best]!) best = i;
  return best;
}

let probabilities = new Float64Array(0);

function draw(task: Task, scores: Float32Array): number {
  const { sampling, seed } = task.request;
  const size = scores.length;
  if (probabilities.length !== size) probabilities = new Float64Array(size);
  const p = probabilities;
  const largest = scores[likeliest(scores)]!;
  let total = 0;
  for (let i = 0; i < size; i++) total += p[i] = Math.exp(scores[i]! - largest);
  for (let i = 0; i < size; i++) p[i]! /= total;
  let kept = 1;
  if (sampling.topK < size || sampling.topP < 1 || sampling.minP > 0) kept = filter(p, sampling);
  // Of the place in the whole text, as in SGLang: a sample that goes on as a prompt draws the same.
  let left = uniformAt(seed, task.ids.length) * kept;
  let last = 0;
  for (let i = 0; i < size; i++) {
    if (p[i]! === 0) continue;
    last = i;
    left -= p[i]!;
    if (left < 0) return i;
  }
  return last;
}

/** Zeroes what top-k, top-p and min-p leave out; returns the mass that stays. */
function filter(
  p: Float64Array,
  options: { topK: number; topP: number; minP: number },
): number {
  const sorted = p.slice().sort().reverse();
  let count = 0;
  let before = 0;
  // top_p counts the mass before a token over all tokens, as SGLang does, not what top_k left.
  while (count < sorted.length && count < options.topK && before <= options.topP) {
    before += sorted[count]!;
    count++;
  }
  const smallest = Math.max(sorted[count - 1]!, sorted[0]! * options.minP);
  let ties = 0;
  for (let i = 0; i < count; i++) if (sorted[i]! === smallest) ties++;
  let kept = 0;
  for (let i = 0; i < p.length; i++) {
    const keep = p[i]! > smallest || (p[i]! === smallest && ties-- > 0);
    if (keep) kept += p[i]!;
    else p[i] = 0;
  }
  return kept;
}
