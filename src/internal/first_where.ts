/**
 * The first place at which something holds that goes on to hold at every place behind it; `count` where
 * it never does. Asks about as often as `count` can be halved.
 */
export function firstWhere(count: number, holds: (place: number) => boolean): number {
  let low = 0;
  for (let high = count; low < high;) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
