/**
 * Seeds of samples. A server with `--enable-deterministic-inference` draws the same tokens for the
 * same prompt and seed, and takes 42 where there is none, so each sample needs a seed of its own.
 * The formulas are documented in docs/engine.md and stay as they are: runs are repeated by them.
 */

const LOW = 2 ** 32;

/**
 * The seed of one sample of a prompt: `seed` with its low 32 bits XORed with `mix(index)`, where
 * `mix` is murmur3's finaliser of `index * 0x9e3779b9`. Both are one-to-one on 32 bits and `mix(0)`
 * is 0, so sample 0 has the seed itself and no two samples of a prompt have the same.
 */
export function sampleSeed(seed: number, index: number): number {
  return withLow(seed, low(seed) ^ spread(index));
}

/**
 * A seed for a part of a run (a dialog, a turn, a row, a call) whose samples are numbered from 0
 * again: `seed` for part 0, else `mix(low ^ mix(part))` in the low 32 bits, so that sample 1 of part
 * 0 is not sample 0 of part 1.
 */
export function partSeed(seed: number, part: number): number {
  return part === 0 ? seed : withLow(seed, mix(low(seed) ^ spread(part)));
}

/** A random seed of 53 bits. */
export function randomSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high! >>> 11) * LOW + low!;
}

function low(seed: number): number {
  return seed | 0;
}

function withLow(seed: number, low: number): number {
  return Math.floor(seed / LOW) * LOW + (low >>> 0);
}

function spread(index: number): number {
  return mix(Math.imul(index, 0x9e3779b9));
}

/** murmur3's finaliser: mixes the 32 bits of a number. */
export function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return h ^ h >>> 16;
}
