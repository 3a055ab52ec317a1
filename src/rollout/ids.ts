/** Whether a list of ids begins with another. */
export function beginsWith(whole: ArrayLike<number>, start: ArrayLike<number>): boolean {
  if (start.length > whole.length) return false;
  for (let index = start.length - 1; index >= 0; index--) {
    if (whole[index] !== start[index]) return false;
  }
  return true;
}

/** Whether two lists hold the same ids. */
export function areSame(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && beginsWith(a, b);
}

/** Index of the first id that differs; `null` when the lists are the same. */
export function firstDifference(a: ArrayLike<number>, b: ArrayLike<number>): number | null {
  const length = Math.min(a.length, b.length);
  for (let index = 0; index < length; index++) {
    if (a[index] !== b[index]) return index;
  }
  return a.length === b.length ? null : length;
}

/** Two lists of ids, one after the other. */
export function joinIds(a: Int32Array, b: Int32Array): Int32Array {
  const out = new Int32Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}
