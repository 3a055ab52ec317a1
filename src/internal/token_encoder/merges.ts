/** Pairs of tokens that become one, in their order. */
import { ValidationError } from "../../errors.ts";
import { atOnce, type Steps } from "../work_turns.ts";
import { NotKnown } from "./not_known.ts";

/** Beyond this a symbol's place and a rank do not fit into one number. */
const MAX_RANKS = 2 ** 21;
const PLACES = 2 ** 31;
/** Symbols of a long word that are looked at in one step. */
const SYMBOLS_A_STEP = 1024;

/** A table of pairs by their ids, in typed arrays: some 300,000 entries of a `Map` take ten times the memory. */
export class Merges {
  readonly #left: Int32Array;
  readonly #right: Int32Array;
  readonly #ranks: Int32Array;
  readonly #slotMask: number;
  /** Id of the token that the pair of each rank becomes. */
  readonly #made: Int32Array;

  /** Reads `merges` of a `tokenizer.json`: pairs, or texts with a space between the two. */
  constructor(merges: readonly unknown[], vocabulary: ReadonlyMap<string, number>, prefix: string) {
    if (merges.length >= MAX_RANKS) throw new NotKnown("more than two million merges");
    let slots = 16;
    while (slots < 2 * merges.length) slots *= 2;
    this.#slotMask = slots - 1;
    this.#left = new Int32Array(slots).fill(-1);
    this.#right = new Int32Array(slots);
    this.#ranks = new Int32Array(slots);
    this.#made = new Int32Array(merges.length);
    for (let rank = 0; rank < merges.length; rank++) {
      const merge = merges[rank];
      const [left, right] = typeof merge === "string" ? pairIn(merge) : pairOf(merge);
      const tail = prefix !== "" && right.startsWith(prefix) ? right.slice(prefix.length) : right;
      const first = vocabulary.get(left);
      const second = vocabulary.get(right);
      const made = vocabulary.get(left + tail);
      if (first === undefined || second === undefined || made === undefined) {
        const named = JSON.stringify([left, right]).slice(0, 100);
        throw new ValidationError(`its merge ${named} is of tokens that are not in its vocab`);
      }
      this.#made[rank] = made;
      this.#set(first, second, rank);
    }
  }

  /** Merges symbols in place until no two that stand side by side can be; gives how many are left. */
  apply(symbols: Int32Array, count: number): number {
    return count <= 48 ? this.#applyToShort(symbols, count) : atOnce(this.steps(symbols, count));
  }

  /** The best pair is looked for each time: quick for words. */
  #applyToShort(symbols: Int32Array, length: number): number {
    let count = length;
    const ranks = shortRanks;
    for (let i = 0; i + 1 < count; i++) ranks[i] = this.#rankOf(symbols[i]!, symbols[i + 1]!);
    while (count > 1) {
      let best = -1;
      let bestRank = MAX_RANKS;
      for (let i = 0; i + 1 < count; i++) {
        if (ranks[i]! < bestRank) {
          bestRank = ranks[i]!;
          best = i;
        }
      }
      if (best < 0) break;
      symbols[best] = this.#made[bestRank]!;
      symbols.copyWithin(best + 1, best + 2, count);
      ranks.copyWithin(best + 1, best + 2, count);
      count--;
      if (best > 0) ranks[best - 1] = this.#rankOf(symbols[best - 1]!, symbols[best]!);
      if (best + 1 < count) ranks[best] = this.#rankOf(symbols[best]!, symbols[best + 1]!);
    }
    return count;
  }

  /** The same in steps, with a heap of pairs: for texts that are one word. */
  *steps(symbols: Int32Array, count: number): Steps<number> {
    const next = new Int32Array(count);
    const before = new Int32Array(count);
    const heap = new Heap(count);
    const push = (place: number) => {
      const rank = this.#rankOf(symbols[place]!, symbols[next[place]!]!);
      if (rank < MAX_RANKS) heap.push(rank * PLACES + place);
    };
    for (let i = 0; i < count; i++) {
      next[i] = i + 1 < count ? i + 1 : -1;
      before[i] = i - 1;
      const rank = i + 1 < count ? this.#rankOf(symbols[i]!, symbols[i + 1]!) : MAX_RANKS;
      if (rank < MAX_RANKS) heap.add(rank * PLACES + i);
      if (i % SYMBOLS_A_STEP === SYMBOLS_A_STEP - 1) yield SYMBOLS_A_STEP / 4;
    }
    yield* heap.order();
    for (let pops = 1; heap.size > 0; pops++) {
      if (pops % SYMBOLS_A_STEP === 0) yield SYMBOLS_A_STEP;
      const entry = heap.pop();
      const place = entry % PLACES;
      const behind = next[place]!;
      // Merged since, into another symbol or with another one.
      if (symbols[place]! < 0 || behind < 0) continue;
      const now = this.#rankOf(symbols[place]!, symbols[behind]!);
      const made = this.#made[Math.floor(entry / PLACES)]!;
      if (now >= MAX_RANKS || this.#made[now] !== made) continue;
      symbols[place] = made;
      symbols[behind] = -1;
      const after = next[behind]!;
      next[place] = after;
      if (after >= 0) {
        before[after] = place;
        push(place);
      }
      if (before[place]! >= 0) push(before[place]!);
    }
    let left = 0;
    for (let i = 0; i >= 0; i = next[i]!) symbols[left++] = symbols[i]!;
    return left;
  }

  #slotOf(left: number, right: number): number {
    let slot = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    slot = (slot ^ (slot >>> 15)) & this.#slotMask;
    while (this.#left[slot] !== -1) {
      if (this.#left[slot] === left && this.#right[slot] === right) return slot;
      slot = (slot + 1) & this.#slotMask;
    }
    return slot;
  }

  #rankOf(left: number, right: number): number {
    const slot = this.#slotOf(left, right);
    return this.#left[slot] === -1 ? MAX_RANKS : this.#ranks[slot]!;
  }

  #set(left: number, right: number, rank: number): void {
    const slot = this.#slotOf(left, right);
    this.#left[slot] = left;
    this.#right[slot] = right;
    this.#ranks[slot] = rank;
  }
}

const shortRanks = new Int32Array(64);

/** A pair that is written with a space between the two. */
function pairIn(merge: string): [string, string] {
  const at = merge.indexOf(" ");
  if (at < 0 || merge.includes(" ", at + 1)) throw new NotKnown("a merge that is no pair");
  return [merge.slice(0, at), merge.slice(at + 1)];
}

function pairOf(merge: unknown): [string, string] {
  if (Array.isArray(merge) && merge.length === 2) return [String(merge[0]), String(merge[1])];
  throw new NotKnown("a merge that is no pair");
}

/** The least of many numbers. */
class Heap {
  #items: Float64Array;
  size = 0;

  constructor(capacity: number) {
    this.#items = new Float64Array(Math.max(16, capacity));
  }

  /** Adds a number before {@linkcode order}. */
  add(item: number): void {
    this.#items[this.size++] = item;
  }

  *order(): Steps<void> {
    for (let i = (this.size >> 1) - 1; i >= 0; i--) {
      this.#sink(i, this.#items[i]!);
      if (i % SYMBOLS_A_STEP === 0) yield SYMBOLS_A_STEP / 4;
    }
  }

  push(item: number): void {
    if (this.size === this.#items.length) {
      const larger = new Float64Array(2 * this.size);
      larger.set(this.#items);
      this.#items = larger;
    }
    const items = this.#items;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (items[parent]! <= item) break;
      items[at] = items[parent]!;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number {
    const least = this.#items[0]!;
    const last = this.#items[--this.size]!;
    if (this.size > 0) this.#sink(0, last);
    return least;
  }

  #sink(from: number, item: number): void {
    const items = this.#items;
    const { size } = this;
    let at = from;
    while (true) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && items[child + 1]! < items[child]!) child++;
      if (items[child]! >= item) break;
      items[at] = items[child]!;
      at = child;
    }
    items[at] = item;
  }
}
