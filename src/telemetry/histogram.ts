/** A count by size, as Prometheus keeps it. */
export class Histogram {
  /** Upper ends of the buckets, growing; beyond the last is one more. */
  readonly ends: readonly number[];
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  /** Makes an empty one. */
  constructor(ends: readonly number[]) {
    this.ends = ends;
    this.#counts = ends.map(() => 0);
  }

  /** Counts a value; what is no number is left out. */
  add(value: number): void {
    if (!Number.isFinite(value)) return;
    this.#sum += value;
    this.#count++;
    const bucket = this.ends.findIndex((end) => value <= end);
    if (bucket >= 0) this.#counts[bucket]!++;
  }

  /** Values counted. */
  get count(): number {
    return this.#count;
  }

  /** Sum of them. */
  get sum(): number {
    return this.#sum;
  }

  /** Values up to each end. */
  get cumulative(): number[] {
    let total = 0;
    return this.#counts.map((count) => total += count);
  }
}

/** Seconds from 5 ms to 10 minutes. */
export const secondsEnds: readonly number[] = [
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
  5,
  10,
  30,
  60,
  120,
  600,
];

/** Versions that something is behind. */
export const stalenessEnds: readonly number[] = [0, 1, 2, 4, 8, 16];
