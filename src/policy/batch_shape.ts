import { ValidationError } from "../errors.ts";

/**
 * The shape of a batch: `[]` is a single row, `[b]` is `b` rows, `[b, n]` is `n` samples for each of
 * `b` prompts. Rows are kept as a flat list, last dimension fastest.
 */
export type BatchShape = readonly number[];

/** A value, or lists of values nested as deep as a batch shape. */
export type Nested<T> = T | readonly Nested<T>[];

/** Number of rows of a batch; 1 for the shape `[]`. */
export function rowCount(shape: BatchShape): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Brings a flat list of rows into nested lists of the given shape; `[]` gives the row itself. */
export function nestRows<T>(rows: readonly T[], shape: BatchShape): Nested<T> {
  checkRowCount(rows.length, shape, "rows");
  const [first, ...rest] = shape;
  if (first === undefined) return rows[0] as T;
  const size = rowCount(rest);
  return Array.from(
    { length: first },
    (_, i) => nestRows(rows.slice(i * size, (i + 1) * size), rest),
  );
}

/** A flat list of rows and its shape, from a row or from nested lists of rows. */
export function flattenRows<T>(
  value: unknown,
  isRow: (value: unknown) => value is T,
): { rows: T[]; batchShape: BatchShape } {
  if (isRow(value)) return { rows: [value], batchShape: [] };
  if (!Array.isArray(value)) {
    throw new ValidationError(`Expected a row or a list of rows, got ${describe(value)}`);
  }
  const parts = value.map((item: unknown) => flattenRows(item, isRow));
  const inner = parts[0]?.batchShape ?? [];
  for (const [index, part] of parts.entries()) {
    if (part.batchShape.join() !== inner.join()) {
      throw new ValidationError(
        `Nested lists must be even: item 0 has the shape (${inner.join(", ")}), ` +
          `item ${index} has (${part.batchShape.join(", ")})`,
      );
    }
  }
  return { rows: parts.flatMap((part) => part.rows), batchShape: [parts.length, ...inner] };
}

/** Throws unless a list of `count` rows fits the shape. */
export function checkRowCount(count: number, shape: BatchShape, name: string): void {
  const wanted = rowCount(shape);
  if (count === wanted) return;
  throw new ValidationError(
    `A batch of shape (${shape.join(", ")}) needs ${wanted} rows, but ${name} has ${count}`,
  );
}

/** A short word for what a value is, for error messages. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (typeof value !== "object") return `${typeof value} ${JSON.stringify(value)}`;
  return value.constructor?.name ?? "an object";
}
