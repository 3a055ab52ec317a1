import { ProtocolError } from "../errors.ts";
import { inBrief } from "../internal/brief.ts";
import type { TopLogProbs } from "./types.ts";

/** Token ids of an answer as a typed array. */
export function toIds(value: unknown, name: string): Int32Array {
  if (!Array.isArray(value)) throw wrong(name, "a list of token ids", value);
  const ids = new Int32Array(value.length);
  for (let i = 0; i < value.length; i++) {
    const id: unknown = value[i];
    if (!Number.isInteger(id)) throw wrong(`${name}[${i}]`, "a token id", id);
    ids[i] = id as number;
  }
  return ids;
}

/**
 * Log-probabilities of tokens, from `[logprob, id, text]` tuples or bare numbers. The first token
 * of a prompt has none: with `firstMayBeMissing` it becomes `NaN`. With `ids` the ids in the tuples
 * must be those.
 */
export function toLogProbs(
  value: unknown,
  options: { name: string; firstMayBeMissing?: boolean; ids?: Int32Array },
): Float32Array {
  const { name, firstMayBeMissing = false, ids } = options;
  if (!Array.isArray(value)) throw wrong(name, "a list of log-probabilities", value);
  const logProbs = new Float32Array(value.length);
  for (let i = 0; i < value.length; i++) {
    const item: unknown = value[i];
    const logProb: unknown = Array.isArray(item) ? item[0] : item;
    if (i === 0 && firstMayBeMissing && logProb === null) {
      logProbs[i] = NaN;
      continue;
    }
    if (typeof logProb !== "number" || !Number.isFinite(logProb)) {
      throw new ProtocolError(
        `${name}[${i}] is a non-finite log-probability: ${inBrief(logProb)}. ` +
          "The model's logits may hold NaN or infinity; check the weights last sent",
      );
    }
    if (ids !== undefined && i < ids.length && Array.isArray(item) && item.length > 1) {
      checkId(item[1], ids[i]!, `${name}[${i}]`);
    }
    logProbs[i] = logProb;
  }
  return logProbs;
}

/** A log-probability of another token than the one that was sampled would train on the wrong one. */
function checkId(told: unknown, sampled: number, name: string): void {
  if (told === sampled) return;
  throw new ProtocolError(
    `${name} of the answer is the log-probability of token ${inBrief(told)}, but output_ids has ` +
      `${sampled} there: they do not belong to one sample`,
  );
}

/** Lists of the likeliest tokens by position; a position without any is `null`. */
export function toTopLogProbs(value: unknown, name: string): (TopLogProbs | null)[] {
  if (!Array.isArray(value)) throw wrong(name, "a list of lists", value);
  return value.map((position: unknown, i) => {
    if (position === null) return null;
    if (!Array.isArray(position)) throw wrong(`${name}[${i}]`, "a list of tuples", position);
    const ids = new Int32Array(position.length);
    const logProbs = new Float32Array(position.length);
    position.forEach((tuple: unknown, j) => {
      const [logProb, id] = Array.isArray(tuple) ? tuple as unknown[] : [];
      if (typeof logProb !== "number" || !Number.isInteger(id)) {
        throw wrong(`${name}[${i}][${j}]`, "[log-probability, token id, text]", tuple);
      }
      logProbs[j] = logProb;
      ids[j] = id as number;
    });
    return { ids, logProbs };
  });
}

function wrong(name: string, expected: string, got: unknown): ProtocolError {
  return new ProtocolError(`${name} of the answer should be ${expected}, got ${inBrief(got)}`);
}
