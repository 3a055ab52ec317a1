/**
 * The binomial tree along which gloo broadcasts from rank 0.
 *
 * Source: gloo `broadcast.cc`.
 */

/** The ranks that `rank` sends to, in this order. */
export function childrenOf(rank: number, worldSize: number): number[] {
  const children: number[] = [];
  for (let bit = 1; rank + bit < worldSize; bit *= 2) {
    if (bit > rank) children.push(rank + bit);
  }
  return children;
}

/** The rank that sends to `rank`, which is not 0: its number without the highest bit. */
export function parentOf(rank: number): number {
  return rank - 2 ** Math.floor(Math.log2(rank));
}
