/** Index of the first token that differs between two lists of ids, or `null`. */
export function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number | null {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    if (a[index] !== b[index]) return index;
  }
  return a.length === b.length ? null : length;
}
