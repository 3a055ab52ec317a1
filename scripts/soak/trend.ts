/** A value at a moment, in minutes. */
export interface Point {
  readonly minute: number;
  readonly value: number;
}

/** How a number moves: what is added in a minute, and between what the truth lies. */
export interface Trend {
  /** The middle of the slopes between any two points (Theil and Sen). */
  readonly perMinute: number;
  /** It lies between these, 95 times of 100. */
  readonly from: number;
  readonly to: number;
  /** Points that were used. */
  readonly points: number;
}

/** 97.5 % of a normal distribution lie below this many standard deviations. */
const NORMAL_95 = 1.96;

/** One point for each minute: the middle of its values, which what comes and goes does not move. */
export function minuteMedians(points: readonly Point[]): Point[] {
  const byMinute = Map.groupBy(points, ({ minute }) => Math.floor(minute));
  return [...byMinute].map(([minute, those]) => ({
    minute: minute + 0.5,
    value: middle(those.map(({ value }) => value)),
  }));
}

/**
 * The slope of a line through points by Theil and Sen: the middle of the slopes of all pairs. A fifth
 * of the points may be anywhere. The interval is Sen's, of the variance of Kendall's tau.
 *
 * Source: P. K. Sen, Estimates of the regression coefficient based on Kendall's tau (1968).
 */
export function trendOf(points: readonly Point[]): Trend {
  const slopes: number[] = [];
  for (const [i, a] of points.entries()) {
    for (const b of points.slice(i + 1)) {
      if (a.minute !== b.minute) slopes.push((b.value - a.value) / (b.minute - a.minute));
    }
  }
  slopes.sort((a, b) => a - b);
  const { length: n } = points;
  const spread = NORMAL_95 * Math.sqrt(n * (n - 1) * (2 * n + 5) / 18);
  const at = (rank: number) => slopes[Math.floor(rank)] ?? (rank < 0 ? -Infinity : Infinity);
  const rounded = (value: number) => Math.round(value * 1000) / 1000;
  return {
    perMinute: rounded(middle(slopes)),
    from: rounded(at((slopes.length - spread) / 2 - 1)),
    to: rounded(at((slopes.length + spread) / 2)),
    points: n,
  };
}

function middle(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length / 2;
  if (sorted.length === 0) return NaN;
  return Number.isInteger(half)
    ? (sorted[half - 1]! + sorted[half]!) / 2
    : sorted[Math.floor(half)]!;
}
