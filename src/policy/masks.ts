import type { BatchShape } from "./batch_shape.ts";
import { type Matrix, type Padding, toMatrix } from "./padding.ts";
import { type Columns, RowBatch } from "./row_batch.ts";

/** Columns of {@linkcode Masks}. */
export type MasksKey = "allAttentionMask" | "allAssistantMask" | "responseMask";

/** Masks over `tokens.full`, one `Uint8Array` of 0 and 1 a row. */
export class Masks extends RowBatch<MasksKey, Uint8Array> {
  /** Whether rows are padded to one length. */
  readonly isPadded: boolean;

  /** Makes masks from flat lists of rows. */
  constructor(
    columns: Columns<MasksKey, Uint8Array>,
    batchShape?: BatchShape,
    options: { isPadded?: boolean | undefined } = {},
  ) {
    super(columns, batchShape);
    this.isPadded = options.isPadded ?? false;
  }

  /** 1 on tokens, 0 on pads. Row shape of `tokens.full`. */
  get allAttentionMask(): readonly Uint8Array[] | null {
    return this.column("allAttentionMask");
  }

  /** 1 on what an assistant wrote, in every turn; `null` when unknown. */
  get allAssistantMask(): readonly Uint8Array[] | null {
    return this.column("allAssistantMask");
  }

  /** 1 on the response of this call only; `null` where nothing was generated. */
  get responseMask(): readonly Uint8Array[] | null {
    return this.column("responseMask");
  }

  /** Pads as the tokens of the same batch are padded; pads are 0. */
  pad(plan: Padding): Masks {
    return new Masks(
      Object.fromEntries(this.keys.map((key) => [key, plan.full(this.get(key), 0)])),
      this.batchShape,
      { isPadded: true },
    );
  }

  /** A column as one array, row by row. Rows must have one length. */
  matrix(key: MasksKey): Matrix<Uint8Array> {
    return toMatrix(this.get(key), this.batchShape);
  }

  /** A batch from other rows. */
  protected override derive(columns: Columns<MasksKey, Uint8Array>, batchShape: BatchShape): this {
    return new Masks(columns, batchShape, { isPadded: this.isPadded }) as this;
  }
}

/** The items of a row where the mask is 1. */
export function masked<Row extends Int32Array | Float32Array>(row: Row, mask: Uint8Array): Row {
  return row.filter((_, index) => mask[index] === 1) as Row;
}
