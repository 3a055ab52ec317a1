import { retold } from "../internal/retold.ts";
import { SGLangError, StateError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { messageOf } from "../internal/thrown.ts";
import type { RolloutBatch } from "./batch.ts";
import type { BatchSink } from "./options.ts";
import type { RolloutRow } from "./row.ts";
import { readRows, writeRows } from "./saved_rows.ts";

/** Somebody who waits for rows. */
interface Waiter {
  readonly count: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Options of {@linkcode ReplayBuffer}. */
export interface ReplayBufferOptions {
  /** Most rows that it holds; the oldest make room. */
  readonly capacity: number;
  /** Source of randomness in [0, 1). Default `Math.random`. */
  readonly random?: (() => number) | undefined;
  /** The time that waits use. */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  capacity: true,
  random: true,
  clock: true,
} as const satisfies OptionNames<ReplayBufferOptions>;

/**
 * Rows to sample from while the collector goes on filling it.
 *
 * @example
 * ```ts
 * import { ReplayBuffer } from "./replay_buffer.ts";
 *
 * const buffer = new ReplayBuffer({ capacity: 10_000 });
 * console.log(buffer.length); // 0
 * ```
 */
export class ReplayBuffer implements BatchSink<null> {
  /** Most rows that it holds. */
  readonly capacity: number;
  readonly #rows: RolloutRow[] = [];
  readonly #random: () => number;
  readonly #clock: Clock;
  readonly #waiting = new Set<Waiter>();
  #next = 0;
  #added = 0;
  #producers = 0;
  #end: Error | undefined;

  /** Makes an empty buffer; throws a {@linkcode ValidationError} for a wrong capacity. */
  constructor(options: ReplayBufferOptions) {
    checkOptionNames(options, OPTION_NAMES, "a ReplayBuffer");
    const { capacity, random = Math.random, clock = systemClock } = options;
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new ValidationError(
        `Cannot make a replay buffer: capacity must be a whole number above 0, not ${capacity}`,
      );
    }
    this.capacity = capacity;
    this.#random = random;
    this.#clock = clock;
  }

  /** Rows that it holds. */
  get length(): number {
    return this.#rows.length;
  }

  /** Rows that were ever added. */
  get added(): number {
    return this.#added;
  }

  /** A collector begins to fill it; those who wait get an error when the last one ends. */
  begin(): void {
    this.#producers++;
    this.#end = undefined;
  }

  /**
   * A collector that had begun has ended, by an error or because it was done. Those who wait for more
   * rows than there are get the error at once, or a {@linkcode StateError} when the last one ended.
   */
  end(error?: Error): void {
    this.#producers--;
    if (error === undefined && this.#producers > 0) return;
    this.#end = error ?? new StateError("The collector that fills the replay buffer has ended");
    for (const waiter of this.#waiting) this.#refuse(waiter);
  }

  /** Takes a batch of a collector; the collector's reader gets `null`. */
  accept(batch: RolloutBatch): null {
    this.extend(batch.rows);
    return null;
  }

  /** Adds rows; the oldest make room. */
  extend(rows: Iterable<RolloutRow>): void {
    for (const row of rows) {
      this.#rows[this.#next] = row;
      this.#next = (this.#next + 1) % this.capacity;
      this.#added++;
    }
    for (const entry of this.#waiting) {
      if (this.length < entry.count) continue;
      this.#waiting.delete(entry);
      entry.resolve();
    }
  }

  /**
   * Draws `count` different rows, each equally likely; `where` leaves out the others. Costs as much
   * as the rows that it looks at, not as the buffer: `count` of them, or with `where` as many as it
   * takes to find `count`.
   *
   * @throws {StateError} When there are too few.
   */
  sample(count: number, options: { where?: (row: RolloutRow) => boolean } = {}): RolloutRow[] {
    const { where } = options;
    const { length } = this.#rows;
    const drawn: RolloutRow[] = [];
    // A Fisher-Yates shuffle that goes only as far as it must and writes down only what it moved.
    const moved = new Map<number, number>();
    for (let i = 0; i < length && drawn.length < count; i++) {
      const j = i + Math.floor(this.#random() * (length - i));
      const row = this.#rows[moved.get(j) ?? j]!;
      if (j !== i) moved.set(j, moved.get(i) ?? i);
      moved.delete(i);
      if (where === undefined || where(row)) drawn.push(row);
    }
    if (drawn.length >= count) return drawn;
    throw new StateError(
      `Cannot sample ${count} rows: the buffer has ${drawn.length}` +
        (where === undefined ? "" : " that match") + "; await waitFor() first",
    );
  }

  /**
   * Waits until it holds at least `count` rows. Default deadline 10 minutes. Rejects at once with
   * the error of a collector that was started to fill it and failed.
   *
   * @throws {ValidationError} When `count` is above the capacity.
   * @throws {TimeoutError} When the deadline passes.
   * @throws {AbortedError} When the signal fires.
   */
  async waitFor(
    count: number,
    options: { signal?: AbortSignal; timeoutMs?: number } = {},
  ): Promise<void> {
    if (count > this.capacity) {
      throw new ValidationError(
        `Cannot wait for ${count} rows: the capacity is ${this.capacity}`,
      );
    }
    if (this.length >= count) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const entry: Waiter = { count, resolve, reject };
    if (this.#end !== undefined) this.#refuse(entry);
    else this.#waiting.add(entry);
    const { signal, timeoutMs = 600_000 } = options;
    try {
      await withDeadline({
        phase: "replay buffer fill",
        timeoutMs,
        signal,
        clock: this.#clock,
        lastHeard: () => `${this.length} of ${count} rows`,
        hint: "Is a collector started and writing to this buffer?",
      }, () => promise);
    } finally {
      this.#waiting.delete(entry);
    }
  }

  /**
   * Writes its rows to a file, bit for bit, as they are at the moment of the call: what comes in while
   * it writes is not in it. Taken together with `collector.state()`, without an `await` between the
   * two, it is what a run goes on from. The file appears whole or not at all.
   *
   * Needs `--allow-write` of the file and of the same with `.part` behind it.
   *
   * @example
   * ```ts ignore
   * const state = collector.state();
   * await buffer.save("buffer-7.jsonl");
   * await Deno.writeTextFile("state.json", JSON.stringify({ state, buffer: "buffer-7.jsonl" }));
   * ```
   */
  async save(path: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    await writeRows(path, this.#oldestFirst(), { added: this.#added, signal: options.signal });
  }

  /**
   * Takes the rows that {@linkcode ReplayBuffer.save} wrote, into an empty buffer. One of a smaller
   * capacity keeps the newest. Nothing is taken of a file that is damaged. Needs `--allow-read`.
   *
   * @throws {StateError} The buffer holds rows already.
   * @throws {ValidationError} The file is another one, was cut, or has a damaged row.
   */
  async restore(path: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    const requireEmpty = () => {
      if (this.#added === 0) return;
      throw new StateError("Cannot restore: rows were added to the buffer already");
    };
    requireEmpty();
    const read = new ReplayBuffer({ capacity: this.capacity });
    let added = 0;
    for await (const item of readRows(path, { signal: options.signal })) {
      if ("rows" in item) added = item.added;
      else read.extend([item]);
    }
    requireEmpty();
    this.extend(read.#oldestFirst());
    this.#added = added;
  }

  /** A copy of its rows, in the order in which they came. */
  #oldestFirst(): RolloutRow[] {
    const oldest = this.length < this.capacity ? 0 : this.#next;
    return [...this.#rows.slice(oldest), ...this.#rows.slice(0, oldest)];
  }

  #refuse(waiter: Waiter): void {
    this.#waiting.delete(waiter);
    const end = this.#end!;
    const held = `the buffer has ${this.length} of ${waiter.count} rows`;
    waiter.reject(
      end instanceof SGLangError
        ? retold(end, `${end.message}; ${held}`)
        : new StateError(`${messageOf(end)}; ${held}`, { cause: end }),
    );
  }

  /** Removes all rows. */
  clear(): void {
    this.#rows.length = 0;
    this.#next = 0;
  }
}
