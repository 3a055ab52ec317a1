/**
 * A permutation of the numbers from 0 to `length - 1` that takes no memory: a Feistel network of six
 * rounds over the next power of four, walked until the number is in range.
 *
 * Source: Black and Rogaway, Ciphers with Arbitrary Finite Domains (CT-RSA 2002), methods 2 and 3.
 */
export function permuted(
  index: number,
  { length, seed, epoch }: { length: number; seed: number; epoch: number },
): number {
  const halfBits = Math.max(1, Math.ceil(Math.log2(Math.max(2, length)) / 2));
  const half = 2 ** halfBits;
  const key = mix(seed ^ mix(epoch + 0x9e3779b9));
  let place = index;
  do {
    let left = Math.floor(place / half);
    let right = place % half;
    for (let round = 0; round < ROUNDS; round++) {
      const next = (left ^ (mix(right ^ mix(key + round)) % half)) >>> 0;
      left = right;
      right = next;
    }
    place = left * half + right;
  } while (place >= length);
  return place;
}

const ROUNDS = 6;

/** The last steps of MurmurHash3: every bit of the result depends on every bit of the value. */
function mix(value: number): number {
  let hash = value | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
