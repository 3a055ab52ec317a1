import { ValidationError } from "../errors.ts";
import { eachLogRatio, ratioOf, type ScoredRow } from "./log_ratios.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** How far trainer and engine are apart on some ids; `r` is `trained / sampled`, a probability. */
export interface MismatchFigures {
  /** Ids that were counted. */
  readonly tokens: number;
  /** Mean of `-log r`: an estimate of KL(engine, trainer) without bias, which can be below 0. */
  readonly k1: number;
  /** Mean of `(log r)² / 2`: biased, little variance, never below 0. */
  readonly k2: number;
  /** Mean of `r - 1 - log r`: without bias, little variance, never below 0. */
  readonly k3: number;
  /** Mean of `r² - 1`: an estimate of the chi-squared divergence. */
  readonly chiSquared: number;
  /** Mean of `|log r|`. */
  readonly meanAbsolute: number;
  /** Largest `|log r|`. */
  readonly maxAbsolute: number;
  /** Mean of `r`; 1 when the two agree. */
  readonly meanRatio: number;
  /** `(Σr)² / Σr² / tokens`: which part of the ids still counts after weighting, from 0 to 1. */
  readonly effectiveSampleSize: number;
}

/** An id on which the two disagree much. */
export interface WorstToken {
  /** Index of the row. */
  readonly row: number;
  /** Index of the id in the row's answer. */
  readonly position: number;
  /** `log r` there. */
  readonly logRatio: number;
}

/** What {@linkcode compareLogProbs} found. */
export interface MismatchReport extends MismatchFigures {
  /** Rows with at least one id that counts. */
  readonly rows: number;
  /** Effective sample size of whole rows, weighted by the product of their ratios, from 0 to 1. */
  readonly rowEffectiveSampleSize: number;
  /** exp of the mean of `-log p` under the trainer, divided by the same under the engine. */
  readonly perplexityRatio: number;
  /** The same figures by age in versions, 0 for the newest; empty without token versions. */
  readonly byAge: ReadonlyMap<number, MismatchFigures>;
  /** The same figures by position in the answer, in ranges that start at these positions. */
  readonly byPosition: ReadonlyMap<number, MismatchFigures>;
  /** The ids with the largest `|log r|`, worst first. */
  readonly worst: readonly WorstToken[];
}

/** Options of {@linkcode compareLogProbs}. */
export interface CompareOptions {
  /** Index of the newest version; the ages count from it. Default: the largest that occurs. */
  readonly newestVersion?: number | undefined;
  /** Ids in a range of positions. Default 256. */
  readonly positionsPerRange?: number | undefined;
  /** How many of the worst ids the report has. Default 10. */
  readonly worst?: number | undefined;
}

const OPTION_NAMES = {
  newestVersion: true,
  positionsPerRange: true,
  worst: true,
} as const satisfies OptionNames<CompareOptions>;

/**
 * Compares the log-probabilities that rows were sampled with to those of a trainer for the same ids.
 * The two differ by kernels and precision, and by the syncs that the trainer is ahead.
 *
 * Sources: Schulman, Approximating KL Divergence (http://joschu.net/blog/kl-approx.html) for k1, k2
 * and k3; Kong, A note on importance sampling using standardized weights (1992), for the effective
 * sample size.
 *
 * @throws {ValidationError} For lengths that differ, numbers that are not finite, or when no id
 *   counts.
 *
 * @example
 * ```ts
 * import { compareLogProbs } from "@sglang-rl/sglang-rl/training";
 *
 * const report = compareLogProbs([{ sampled: [-1, -2], trained: [-1.1, -1.9] }]);
 * console.log(report.k3, report.effectiveSampleSize);
 * ```
 */
export function compareLogProbs(
  rows: readonly ScoredRow[],
  options: CompareOptions = {},
): MismatchReport {
  checkOptionNames(options, OPTION_NAMES, "compareLogProbs()");
  const { newestVersion = newestOf(rows), positionsPerRange = 256, worst = 10 } = options;
  requirePositive("positionsPerRange", positionsPerRange);
  const all = new Tally();
  const ofRows = new Tally();
  const byAge = new Map<number, Tally>();
  const byPosition = new Map<number, Tally>();
  const worstTokens = new WorstTokens(worst);
  let sampledSum = 0;
  let trainedSum = 0;
  for (const [index, row] of rows.entries()) {
    let rowLogRatio = 0;
    let counted = 0;
    eachLogRatio(row, index, (logRatio, position) => {
      all.add(logRatio);
      const version = row.tokenVersions?.[position];
      if (version !== undefined && version >= 0) {
        tally(byAge, newestVersion - version).add(logRatio);
      }
      tally(byPosition, Math.floor(position / positionsPerRange) * positionsPerRange).add(logRatio);
      worstTokens.add({ row: index, position, logRatio });
      sampledSum += row.sampled[position]!;
      trainedSum += row.trained[position]!;
      rowLogRatio += logRatio;
      counted++;
    });
    if (counted > 0) ofRows.add(rowLogRatio);
  }
  if (all.tokens === 0) throw new ValidationError("Cannot compare log-probabilities: no id counts");
  return {
    ...all.figures(),
    rows: ofRows.tokens,
    rowEffectiveSampleSize: ofRows.figures().effectiveSampleSize,
    perplexityRatio: ratioOf((sampledSum - trainedSum) / all.tokens),
    byAge: figuresOf(byAge),
    byPosition: figuresOf(byPosition),
    worst: worstTokens.list(),
  };
}

/** Bounds for {@linkcode mismatchAlarms}; a figure beyond its bound is an alarm. */
export interface MismatchBounds {
  /** Largest k3 that is fine. Default 0.01. */
  readonly k3?: number | undefined;
  /** Largest `|log r|` of a single id that is fine. Default no bound. */
  readonly maxAbsolute?: number | undefined;
  /** Smallest effective sample size of ids that is fine. Default 0.9. */
  readonly effectiveSampleSize?: number | undefined;
}

/**
 * What is out of bounds, one sentence each; none when all is well.
 *
 * The defaults are ours, for rows at most a few versions old: agreement to kernels' precision gives a
 * k3 below 0.001.
 */
export function mismatchAlarms(
  figures: MismatchFigures,
  bounds: MismatchBounds = {},
): string[] {
  const { k3 = 0.01, maxAbsolute = Infinity, effectiveSampleSize = 0.9 } = bounds;
  const alarms: string[] = [];
  if (figures.k3 > k3) alarms.push(`k3 is ${figures.k3.toPrecision(3)}, above ${k3}`);
  if (figures.maxAbsolute > maxAbsolute) {
    const most = figures.maxAbsolute.toPrecision(3);
    alarms.push(`one id's log-probabilities differ by ${most}, above ${maxAbsolute}`);
  }
  if (figures.effectiveSampleSize < effectiveSampleSize) {
    const size = figures.effectiveSampleSize.toPrecision(3);
    alarms.push(`the effective sample size is ${size}, below ${effectiveSampleSize}`);
  }
  return alarms;
}

/** Sums over log ratios, from which all figures follow. */
class Tally {
  tokens = 0;
  #logs = 0;
  #squaredLogs = 0;
  #absolutes = 0;
  #largest = 0;
  #ratios = 0;
  #squaredRatios = 0;

  add(logRatio: number): void {
    const ratio = ratioOf(logRatio);
    this.tokens++;
    this.#logs += logRatio;
    this.#squaredLogs += logRatio ** 2;
    this.#absolutes += Math.abs(logRatio);
    this.#largest = Math.max(this.#largest, Math.abs(logRatio));
    this.#ratios += ratio;
    this.#squaredRatios += ratio ** 2;
  }

  figures(): MismatchFigures {
    const { tokens } = this;
    return {
      tokens,
      k1: -this.#logs / tokens,
      k2: this.#squaredLogs / 2 / tokens,
      k3: this.#ratios / tokens - 1 - this.#logs / tokens,
      chiSquared: this.#squaredRatios / tokens - 1,
      meanAbsolute: this.#absolutes / tokens,
      maxAbsolute: this.#largest,
      meanRatio: this.#ratios / tokens,
      effectiveSampleSize: this.#ratios ** 2 / this.#squaredRatios / tokens,
    };
  }
}

/** Keeps the few ids that differ most, without sorting all. */
class WorstTokens {
  readonly #limit: number;
  #kept: WorstToken[] = [];
  #least = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(token: WorstToken): void {
    if (this.#limit === 0) return;
    const isFull = this.#kept.length >= this.#limit;
    if (isFull && Math.abs(token.logRatio) <= this.#least) return;
    this.#kept.push(token);
    if (this.#kept.length >= 2 * this.#limit || this.#kept.length === this.#limit) this.#trim();
  }

  list(): readonly WorstToken[] {
    this.#trim();
    return this.#kept;
  }

  #trim(): void {
    this.#kept.sort((a, b) => Math.abs(b.logRatio) - Math.abs(a.logRatio));
    this.#kept = this.#kept.slice(0, this.#limit);
    const last = this.#kept.at(this.#limit - 1);
    if (last !== undefined) this.#least = Math.abs(last.logRatio);
  }
}

function tally(map: Map<number, Tally>, key: number): Tally {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = new Tally();
  map.set(key, made);
  return made;
}

function figuresOf(map: ReadonlyMap<number, Tally>): Map<number, MismatchFigures> {
  const sorted = [...map].sort(([a], [b]) => a - b);
  return new Map(sorted.map(([key, figures]) => [key, figures.figures()]));
}

function newestOf(rows: readonly ScoredRow[]): number {
  let newest = -1;
  for (const { tokenVersions } of rows) {
    for (let index = 0; index < (tokenVersions?.length ?? 0); index++) {
      newest = Math.max(newest, tokenVersions![index]!);
    }
  }
  return newest;
}

function requirePositive(name: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new ValidationError(`${name} must be a whole number above 0, not ${value}`);
}
