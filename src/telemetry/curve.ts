/** A point of a curve. */
export interface CurvePoint {
  /** When, as milliseconds since 1970. */
  readonly at: number;
  /** The value. */
  readonly value: number;
}

/** Points that a curve keeps; when it is full every other one goes. */
const MOST_POINTS = 1000;

/** Values over time in bounded memory: the older a run, the coarser its curve. */
export class Curve {
  #points: CurvePoint[] = [];
  #every = 1;
  #skipped = 0;

  /** The points, oldest first. */
  get points(): readonly CurvePoint[] {
    return this.#points;
  }

  /** Adds a value; what is no number is left out. */
  add(at: number, value: number): void {
    if (!Number.isFinite(value)) return;
    if (++this.#skipped < this.#every) return;
    this.#skipped = 0;
    this.#points.push({ at, value });
    if (this.#points.length <= MOST_POINTS) return;
    this.#points = this.#points.filter((_point, index) => index % 2 === 0);
    this.#every *= 2;
  }
}

/** Counts by stretches of ten seconds, for the rate over the last hour. */
export class RateCurve {
  readonly #stretches: { at: number; count: number }[] = [];

  /** Adds to the stretch that a moment lies in. */
  add(at: number, count: number): void {
    const start = Math.floor(at / STRETCH_MS) * STRETCH_MS;
    const last = this.#stretches.at(-1);
    if (last?.at === start) last.count += count;
    else this.#stretches.push({ at: start, count });
    if (this.#stretches.length > MOST_STRETCHES) this.#stretches.shift();
  }

  /** Rates a second, oldest first; the stretch that is not over is left out. */
  pointsUntil(now: number): CurvePoint[] {
    return this.#stretches.filter(({ at }) => at + STRETCH_MS <= now)
      .map(({ at, count }) => ({ at, value: count / (STRETCH_MS / 1000) }));
  }
}

const STRETCH_MS = 10_000;
const MOST_STRETCHES = 360;
