import { StateError, ValidationError } from "../errors.ts";
import { permuted } from "./permutation.ts";

/** Rows that can be read at any place. */
export interface RowStore<Row> {
  /** Number of rows. */
  readonly length: number;
  /** The row at a place from 0. */
  at(index: number): Row | Promise<Row>;
  /** Frees what it holds. */
  close?(): void;
}

/** A part of a dataset, for one of several programs. */
export interface Shard {
  /** Which part, from 0. */
  readonly index: number;
  /** How many parts there are. */
  readonly count: number;
}

/** Where an iteration of a dataset stands, as plain JSON. */
export interface DatasetState {
  /** Number of the next task. */
  readonly next: number;
  /** Rows of the dataset that the state is of. */
  readonly rows: number;
}

interface Order {
  readonly seed: number | null;
  readonly epochs: number;
  readonly shard: Shard;
}

/**
 * Rows in the order in which a run takes them. Task `t` is the same row in every run with the same
 * seed: the order is computed from it and not drawn, so that a run that goes on needs no more than
 * the number of its next task, and members of a group get the same row.
 *
 * Every method makes a new dataset of the same rows; nothing is copied.
 *
 * @example
 * ```ts
 * import { datasetOf } from "@sglang-rl/sglang-rl/datasets";
 *
 * await using dataset = (await datasetOf(["a", "b", "c"])).shuffle(7).repeat(2);
 * console.log(dataset.tasks, await dataset.task(4)); // 6 tasks
 * ```
 */
export class Dataset<Row> implements AsyncIterable<Row>, AsyncDisposable {
  readonly #store: RowStore<Row>;
  readonly #order: Order;

  /** Rows of a store, in their order, once. */
  constructor(store: RowStore<Row>, order: Partial<Order> = {}) {
    this.#store = store;
    this.#order = { seed: null, epochs: 1, shard: { index: 0, count: 1 }, ...order };
  }

  /** Rows of one epoch, of this shard. */
  get length(): number {
    const { index, count } = this.#order.shard;
    return Math.max(0, Math.ceil((this.#store.length - index) / count));
  }

  /** Tasks in all: rows times epochs; `Infinity` for no end. */
  get tasks(): number {
    return this.length === 0 ? 0 : this.length * this.#order.epochs;
  }

  /**
   * The rows in another order in each epoch, the same for the same seed.
   *
   * @throws {ValidationError} When the seed is no whole number.
   */
  shuffle(seed: number): Dataset<Row> {
    if (!Number.isSafeInteger(seed)) refuse(`seed must be a whole number, not ${seed}`);
    return new Dataset(this.#store, { ...this.#order, seed });
  }

  /** The rows `epochs` times; `Infinity` for no end. */
  repeat(epochs: number): Dataset<Row> {
    if (epochs !== Infinity && !isCount(epochs, 1)) {
      refuse(`epochs must be a whole number above 0 or Infinity, not ${epochs}`);
    }
    return new Dataset(this.#store, { ...this.#order, epochs });
  }

  /** Part `index` of `count`: the shards of an epoch have each row once. */
  shard(shard: Shard): Dataset<Row> {
    const { index, count } = shard;
    if (!isCount(count, 1) || !isCount(index, 0) || index >= count) {
      refuse(`shard ${index} of ${count} is none; count from 0`);
    }
    return new Dataset(this.#store, { ...this.#order, shard: { index, count } });
  }

  /** Each row changed by `change` when it is taken. */
  map<Other>(change: (row: Row) => Other | Promise<Other>): Dataset<Other> {
    const store = this.#store;
    return new Dataset({
      length: store.length,
      at: async (index) => await change(await store.at(index)),
      close: () => store.close?.(),
    }, this.#order);
  }

  /** Two datasets: the first `rows` of the file, and the rest; for example to hold some out. */
  split(rows: number): [Dataset<Row>, Dataset<Row>] {
    const { length } = this.#store;
    if (!isCount(rows, 0) || rows > length) refuse(`cannot split ${length} rows after ${rows}`);
    const part = (from: number, to: number) =>
      new Dataset<Row>({
        length: to - from,
        at: (index) => this.#store.at(from + index),
        close: () => this.#store.close?.(),
      }, this.#order);
    return [part(0, rows), part(rows, length)];
  }

  /**
   * The row of task `task`, from 0.
   *
   * @throws {StateError} When there is no such task.
   */
  async task(task: number): Promise<Row> {
    const { length } = this;
    if (!isCount(task, 0) || task >= this.tasks) {
      throw new StateError(
        `The dataset has no task ${task}: it has ${this.tasks}; give totalDialogs, or repeat() it`,
      );
    }
    const epoch = Math.floor(task / length);
    const { seed, shard } = this.#order;
    const place = shard.index + (task % length) * shard.count;
    return await this.#store.at(
      seed === null ? place : permuted(place, { length: this.#store.length, seed, epoch }),
    );
  }

  /**
   * The tasks one after the other, from where a state stands.
   *
   * @throws {ValidationError} For a state of a dataset with other rows.
   */
  from(state: DatasetState = { next: 0, rows: this.length }): DatasetCursor<Row> {
    const { next, rows } = state;
    if (rows !== this.length || !isCount(next, 0)) {
      refuse(`cannot go on at task ${next} of ${rows} rows: this dataset has ${this.length}`);
    }
    return new DatasetCursor(this, next);
  }

  /** All tasks from the first. */
  [Symbol.asyncIterator](): AsyncGenerator<Row, void, void> {
    return this.from()[Symbol.asyncIterator]();
  }

  /** Closes the file; datasets made of this one are closed with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#store.close?.();
    await Promise.resolve();
  }
}

/** Takes the tasks of a dataset one after the other, and knows where it stands. */
export class DatasetCursor<Row> implements AsyncIterable<Row> {
  readonly #dataset: Dataset<Row>;
  #next: number;

  /** For {@linkcode Dataset.from}. */
  constructor(dataset: Dataset<Row>, next: number) {
    this.#dataset = dataset;
    this.#next = next;
  }

  /** Where it stands; a later run goes on there with {@linkcode Dataset.from}. */
  state(): DatasetState {
    return { next: this.#next, rows: this.#dataset.length };
  }

  /** The tasks that are left. Leaving the loop keeps the place. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Row, void, void> {
    while (this.#next < this.#dataset.tasks) {
      const row = await this.#dataset.task(this.#next);
      this.#next++;
      yield row;
    }
  }
}

function isCount(value: unknown, least: number): boolean {
  return Number.isSafeInteger(value) && (value as number) >= least;
}

function refuse(reason: string): never {
  throw new ValidationError(`Dataset: ${reason}`);
}
