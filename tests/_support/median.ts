/** The item in the middle, ordered by a number of each; of an even count the upper one. */
export function medianBy<Item>(items: readonly Item[], numberOf: (item: Item) => number): Item {
  const sorted = items.toSorted((a, b) => numberOf(a) - numberOf(b));
  return sorted[Math.floor(sorted.length / 2)]!;
}

/** The number in the middle; of an even count the upper one. */
export function median(numbers: readonly number[]): number {
  return medianBy(numbers, (number) => number);
}
