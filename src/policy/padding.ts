import { ValidationError } from "../errors.ts";

/**
 * How rows of unequal length become a rectangle.
 *
 * - `"left"`, as TorchRL documents it: prompts are padded on the left, responses on the right, and
 *   `full` is the padded prompt followed by the padded response.
 * - `"upstream"`, as TorchRL 0.14 does it: prompts are padded on the right too, which leaves a hole
 *   between prompt and response in `full`.
 *
 * Rows that have no prompt and response, only `full`, are padded on the left in both.
 */
export type PadLayout = "left" | "upstream";

/** Arrays that hold the rows of a batch. */
export type RowArray = Int32Array | Float32Array | Uint8Array;

/** Lengths of the rows of a batch before padding. */
export interface RowLengths {
  /** Prompt lengths, when known. */
  readonly prompt?: readonly number[] | undefined;
  /** Response lengths, when known. */
  readonly response?: readonly number[] | undefined;
  /** Full lengths, when known. */
  readonly full?: readonly number[] | undefined;
}

/** A rectangle of numbers, row by row. */
export interface Matrix<Row extends RowArray> {
  /** All rows, one after the other. */
  readonly data: Row;
  /** The batch shape and the row length. */
  readonly shape: readonly number[];
}

/** How each part of a batch is padded; made from ragged tokens, used for masks and log-probs too. */
export class Padding {
  /** Where pads go. */
  readonly layout: PadLayout;
  /** Lengths before padding. */
  readonly lengths: RowLengths;
  /** Length of a padded prompt. */
  readonly promptWidth: number;

  /** Makes a plan from the lengths of ragged rows. */
  constructor(
    lengths: RowLengths,
    layout: PadLayout = "left",
    promptWidth: number = longest(lengths.prompt ?? []),
  ) {
    if (layout !== "left" && layout !== "upstream") {
      throw new ValidationError(`Pad layout must be "left" or "upstream", got ${String(layout)}`);
    }
    this.lengths = lengths;
    this.layout = layout;
    this.promptWidth = promptWidth;
  }

  /** Pads prompts, `(b, Pmax)`. */
  prompt<Row extends RowArray>(rows: readonly Row[], fill: number): Row[] {
    const length = this.promptWidth;
    const isLeft = this.layout === "left";
    return rows.map((row) => placed(row, length, { fill, at: isLeft ? length - row.length : 0 }));
  }

  /** Pads responses on the right, `(b, Rmax)`. */
  response<Row extends RowArray>(rows: readonly Row[], fill: number): Row[] {
    const length = longest(rows.map((row) => row.length));
    return rows.map((row) => placed(row, length, { fill, at: 0 }));
  }

  /** Pads full rows: `(b, Pmax + Rmax)`, or `(b, Fmax)` on the left without known prompts. */
  full<Row extends RowArray>(rows: readonly Row[], fill: number): Row[] {
    const { prompt, response } = this.lengths;
    if (prompt === undefined || response === undefined) {
      const length = longest(rows.map((row) => row.length));
      return rows.map((row) => placed(row, length, { fill, at: length - row.length }));
    }
    const prompts = this.prompt(rows.map((row, i) => row.subarray(0, prompt[i]) as Row), fill);
    const responses = this.response(rows.map((row, i) => row.subarray(prompt[i]) as Row), fill);
    return prompts.map((row, i) => joined(row, responses[i]!));
  }

  /** Takes the pads of prompts away. */
  unpadPrompt<Row extends RowArray>(rows: readonly Row[]): Row[] {
    const lengths = this.lengths.prompt ?? [];
    return rows.map((row, i) =>
      (this.layout === "left"
        ? row.slice(row.length - lengths[i]!)
        : row.slice(0, lengths[i])) as Row
    );
  }

  /** Takes the pads of responses away. */
  unpadResponse<Row extends RowArray>(rows: readonly Row[]): Row[] {
    return rows.map((row, i) => row.slice(0, this.lengths.response?.[i]) as Row);
  }

  /** Takes the pads of full rows away. */
  unpadFull<Row extends RowArray>(rows: readonly Row[]): Row[] {
    const { prompt, response, full } = this.lengths;
    if (prompt === undefined || response === undefined) {
      return rows.map((row, i) => row.slice(row.length - full![i]!) as Row);
    }
    const width = this.promptWidth;
    const prompts = this.unpadPrompt(rows.map((row) => row.subarray(0, width) as Row));
    const responses = this.unpadResponse(rows.map((row) => row.subarray(width) as Row));
    return prompts.map((row, i) => joined(row, responses[i]!));
  }

  /** The plan for some of the rows. */
  select(indices: readonly number[]): Padding {
    const pick = (lengths: readonly number[] | undefined) =>
      lengths && indices.map((index) => lengths[index]!);
    const { prompt, response, full } = this.lengths;
    return new Padding(
      { prompt: pick(prompt), response: pick(response), full: pick(full) },
      this.layout,
      this.promptWidth,
    );
  }
}

/** Rows of equal length as one array. */
export function toMatrix<Row extends RowArray>(
  rows: readonly Row[],
  batchShape: readonly number[],
): Matrix<Row> {
  const width = rows[0]?.length ?? 0;
  const uneven = rows.findIndex((row) => row.length !== width);
  if (uneven >= 0) {
    throw new ValidationError(
      `Row ${uneven} has ${rows[uneven]!.length} items, row 0 has ${width}: call pad() first`,
    );
  }
  return { data: joined(...rows), shape: [...batchShape, width] };
}

/** One array after the other, as a new array of the first one's kind. */
export function joined<Row extends RowArray>(...rows: readonly Row[]): Row {
  const length = rows.reduce((sum, row) => sum + row.length, 0);
  const Kind = (rows[0]?.constructor ?? Int32Array) as new (length: number) => Row;
  const out = new Kind(length);
  let at = 0;
  for (const row of rows) {
    out.set(row, at);
    at += row.length;
  }
  return out;
}

/** Whether the whole is the parts, one after the other. */
export function isConcatenation(parts: readonly Int32Array[], whole: Int32Array): boolean {
  let at = 0;
  for (const part of parts) {
    if (part.some((id, index) => whole[at + index] !== id)) return false;
    at += part.length;
  }
  return at === whole.length;
}

function placed<Row extends RowArray>(
  row: Row,
  length: number,
  { fill, at }: { fill: number; at: number },
): Row {
  const out = new (row.constructor as new (length: number) => Row)(length);
  out.fill(fill);
  out.set(row, at);
  return out;
}

function longest(lengths: readonly number[]): number {
  return lengths.reduce((most, length) => Math.max(most, length), 0);
}
