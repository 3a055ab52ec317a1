import { StateError } from "../errors.ts";
import { type BatchShape, checkRowCount, type Nested, nestRows } from "./batch_shape.ts";

/** Columns of rows by name; an absent column is `null`, `undefined` or not there. */
export type Columns<Key extends string, Row> = {
  readonly [K in Key]?: readonly Row[] | null | undefined;
};

/**
 * A batch as a shape and flat lists of rows, one list for each column.
 *
 * @typeParam Key Names of the columns.
 * @typeParam Row What a row of a column is, such as `Int32Array` or `string`.
 */
export abstract class RowBatch<Key extends string, Row> {
  /** Shape of the batch; `[]` for a single row. */
  readonly batchShape: BatchShape;
  readonly #columns: Columns<Key, Row>;

  /**
   * Makes a batch. Without a shape it is `[b]`, with `b` the length of the first column.
   *
   * @throws {ValidationError} A column does not have as many rows as the shape says.
   */
  constructor(columns: Columns<Key, Row>, batchShape?: BatchShape) {
    const present = Object.entries(columns).filter(([, rows]) => rows) as [Key, readonly Row[]][];
    this.batchShape = batchShape ?? [present[0]?.[1].length ?? 0];
    for (const [name, rows] of present) checkRowCount(rows.length, this.batchShape, name);
    this.#columns = Object.fromEntries(present) as Columns<Key, Row>;
  }

  /** Names of the columns that are there. */
  get keys(): Key[] {
    return Object.keys(this.#columns) as Key[];
  }

  /** Whether a column is there. */
  has(key: Key): boolean {
    return this.#columns[key] !== undefined;
  }

  /**
   * The flat list of rows of a column.
   *
   * @throws {StateError} The column is absent.
   */
  get(key: Key): readonly Row[] {
    const rows = this.#columns[key];
    if (rows) return rows;
    throw new StateError(
      `${this.constructor.name} has no "${key}"; it has ${this.keys.join(", ") || "nothing"}`,
    );
  }

  /** The rows of a column nested as the batch is: the row itself for a batch of shape `[]`. */
  nested(key: Key): Nested<Row> {
    return nestRows(this.get(key), this.batchShape);
  }

  /**
   * The only row of a column.
   *
   * @throws {StateError} The batch has not exactly one row.
   */
  only(key: Key): Row {
    const rows = this.get(key);
    if (rows.length === 1) return rows[0]!;
    throw new StateError(`"${key}" has ${rows.length} rows, not one; use get() or nested()`);
  }

  /** The same rows under another shape. */
  reshape(batchShape: BatchShape): this {
    return this.derive(this.#columns, batchShape);
  }

  /** The rows at the given flat indices, as a batch of shape `[indices.length]`. */
  select(indices: readonly number[]): this {
    const columns: { [K in Key]?: readonly Row[] } = {};
    for (const key of this.keys) columns[key] = indices.map((index) => this.get(key)[index]!);
    return this.derive(columns, [indices.length], indices);
  }

  /**
   * For `JSON.stringify()`: the shape, and the rows of each column as plain lists, nested as the batch
   * is. As an input of a wrapper it is read as this batch is.
   */
  toJSON(): Record<string, unknown> {
    const columns = this.keys.map((key) => {
      const rows = this.get(key).map((row) =>
        ArrayBuffer.isView(row) ? Array.from(row as never) : row
      );
      return [key, nestRows(rows, this.batchShape)];
    });
    return { batchShape: this.batchShape, ...Object.fromEntries(columns) };
  }

  /** The rows of a column, or `null`. */
  protected column(key: Key): readonly Row[] | null {
    return this.#columns[key] ?? null;
  }

  /** A batch of the same class from other rows; `indices` tells which rows were taken. */
  protected abstract derive(
    columns: Columns<Key, Row>,
    batchShape: BatchShape,
    indices?: readonly number[],
  ): this;
}
