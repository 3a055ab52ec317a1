import { ValidationError } from "../errors.ts";

/**
 * One row as the engine sampled it and as the trainer scores the same ids: what the two disagree on.
 */
export interface ScoredRow {
  /** Log-probabilities that the row was sampled with `(R)`. */
  readonly sampled: ArrayLike<number>;
  /** Log-probabilities that the trainer's model gives the same ids `(R)`. */
  readonly trained: ArrayLike<number>;
  /** 1 on ids that count `(R)`; all of them without it. */
  readonly mask?: ArrayLike<number> | undefined;
  /** Policy version that made each id `(R)`; without it the report has no figures by age. */
  readonly tokenVersions?: ArrayLike<number> | null | undefined;
}

/**
 * A ratio is limited to e to the power of this, so that one wild row does not make a sum infinite.
 * The value is that of verl's rollout correction.
 */
export const LARGEST_LOG_RATIO = 20;

/** Calls `visit` with `trained - sampled` of every id that counts, in order. */
export function eachLogRatio(
  row: ScoredRow,
  index: number,
  visit: (logRatio: number, position: number) => void,
): void {
  const { sampled, trained, mask } = row;
  requireLength("trained", trained.length, { index, expected: sampled.length });
  if (mask !== undefined) requireLength("mask", mask.length, { index, expected: sampled.length });
  for (let position = 0; position < sampled.length; position++) {
    if (mask !== undefined && mask[position] === 0) continue;
    const logRatio = trained[position]! - sampled[position]!;
    if (!Number.isFinite(logRatio)) {
      throw new ValidationError(
        `Row ${index}, id ${position}: log-probabilities must be finite numbers, not ` +
          `${sampled[position]} (sampled) and ${trained[position]} (trained). Leave the id out ` +
          `with a mask`,
      );
    }
    visit(logRatio, position);
  }
}

/** A ratio of probabilities from its logarithm, limited by {@linkcode LARGEST_LOG_RATIO}. */
export function ratioOf(logRatio: number): number {
  return Math.exp(Math.max(-LARGEST_LOG_RATIO, Math.min(LARGEST_LOG_RATIO, logRatio)));
}

function requireLength(
  name: string,
  length: number,
  { index, expected }: { index: number; expected: number },
): void {
  if (length === expected) return;
  throw new ValidationError(
    `Row ${index}: ${name} must have ${expected} entries, one for each sampled id, not ${length}`,
  );
}
