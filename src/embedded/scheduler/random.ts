/** Deterministic random numbers. */
import { mix } from "../../internal/sample_seed.ts";

/** A number in [0, 1) that depends on the two numbers alone (murmur3's finaliser on each half). */
export function uniformAt(seed: number, index: number): number {
  const low = mix(seed >>> 0 ^ Math.imul(index, 0x9e3779b9));
  const high = mix(low ^ Math.floor(seed / 0x100000000) ^ 0x85ebca6b);
  return ((high >>> 5) * 0x4000000 + (mix(high ^ low) >>> 6)) / 0x20000000000000;
}

/** Whole numbers below 2³², one after the other, the same for the same seed. */
export class SeedStream {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** The next number. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0;
    return mix(this.#state) >>> 0;
  }

  /** The next number, as a sample of the standard normal distribution (Box and Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log((this.next() + 1) / 0x100000001));
    return radius * Math.cos(2 * Math.PI * this.next() / 0x100000000);
  }
}
