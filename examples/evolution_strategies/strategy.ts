/** Evolution strategies over a vector of parameters: pure numbers, no servers. */

/** Settings of {@linkcode EvolutionStrategy}. */
export interface StrategySettings {
  /** Pairs of candidates in a generation; the two of a pair are mirror images. */
  readonly pairs: number;
  /** Size of the noise. */
  readonly noise: number;
  /** Size of a step. */
  readonly stepSize: number;
  /** The same seed makes the same noise. */
  readonly seed: number;
}

/**
 * Evolution strategies as in Salimans et al. 2017 (arXiv:1703.03864): mirrored noise, rewards turned
 * into ranks, and Adam on the estimated gradient.
 */
export class EvolutionStrategy {
  /** The parameters in the middle of the candidates. */
  readonly center: Float32Array;
  readonly #settings: StrategySettings;
  readonly #gaussian: () => number;
  readonly #mean: Float32Array;
  readonly #square: Float32Array;
  #noises: Float32Array[] = [];
  #steps = 0;

  /** Begins at `start`. */
  constructor(start: Float32Array, settings: StrategySettings) {
    this.center = start.slice();
    this.#settings = settings;
    this.#gaussian = gaussianOf(settings.seed);
    this.#mean = new Float32Array(start.length);
    this.#square = new Float32Array(start.length);
  }

  /** The candidates of the next generation, two by two mirror images. */
  ask(): Float32Array[] {
    const { pairs, noise } = this.#settings;
    this.#noises = Array.from({ length: pairs }, () => this.center.map(() => this.#gaussian()));
    return this.#noises.flatMap((direction) => [
      this.center.map((value, i) => value + noise * direction[i]!),
      this.center.map((value, i) => value - noise * direction[i]!),
    ]);
  }

  /** Steps towards the candidates with the better rewards, which are in the order of `ask`. */
  tell(rewards: readonly number[]): void {
    const ranks = centeredRanks(rewards);
    const gradient = new Float32Array(this.center.length);
    for (const [pair, direction] of this.#noises.entries()) {
      const weight = (ranks[2 * pair]! - ranks[2 * pair + 1]!) / this.#noises.length;
      for (let i = 0; i < gradient.length; i++) gradient[i]! += weight * direction[i]!;
    }
    this.#adam(gradient);
  }

  #adam(gradient: Float32Array): void {
    const [decayMean, decaySquare] = [0.9, 0.99];
    this.#steps++;
    for (let i = 0; i < gradient.length; i++) {
      const slope = gradient[i]!;
      this.#mean[i] = decayMean * this.#mean[i]! + (1 - decayMean) * slope;
      this.#square[i] = decaySquare * this.#square[i]! + (1 - decaySquare) * slope ** 2;
      const mean = this.#mean[i]! / (1 - decayMean ** this.#steps);
      const square = this.#square[i]! / (1 - decaySquare ** this.#steps);
      this.center[i]! += this.#settings.stepSize * mean / (Math.sqrt(square) + 1e-8);
    }
  }
}

/** Ranks spread from -0.5 (worst) to 0.5 (best); equal rewards share their rank. */
export function centeredRanks(rewards: readonly number[]): number[] {
  const sorted = rewards.toSorted((a, b) => a - b);
  return rewards.map((reward) => {
    const rank = (sorted.indexOf(reward) + sorted.lastIndexOf(reward)) / 2;
    return rank / (rewards.length - 1) - 0.5;
  });
}

/** Gaussian noise from a seed: mulberry32 and Box-Muller. */
export function gaussianOf(seed: number): () => number {
  let state = seed | 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
