import type { BatchShape } from "./batch_shape.ts";
import { type Matrix, type Padding, toMatrix } from "./padding.ts";
import { type Columns, RowBatch } from "./row_batch.ts";

/** Columns of {@linkcode LogProbs}. */
export type LogProbsKey = "prompt" | "response" | "full";

/**
 * Log-probabilities of tokens, one `Float32Array` a row, each as long as the tokens' row.
 *
 * In `full` a token that the policy did not make, and the first token of a scored row, has 0. Pads
 * are 0. Masks tell which values count.
 */
export class LogProbs extends RowBatch<LogProbsKey, Float32Array> {
  /** Whether rows are padded to one length. */
  readonly isPadded: boolean;

  /** Makes log-probs from flat lists of rows. */
  constructor(
    columns: Columns<LogProbsKey, Float32Array>,
    batchShape?: BatchShape,
    options: { isPadded?: boolean | undefined } = {},
  ) {
    super(columns, batchShape);
    this.isPadded = options.isPadded ?? false;
  }

  /** Of prompt tokens, or `null`. Row shape `(P)`. */
  get prompt(): readonly Float32Array[] | null {
    return this.column("prompt");
  }

  /** Of response tokens, or `null`. Row shape `(R)`. */
  get response(): readonly Float32Array[] | null {
    return this.column("response");
  }

  /** Of all tokens, or `null`. Row shape `(P + R)`. */
  get full(): readonly Float32Array[] | null {
    return this.column("full");
  }

  /** Pads as the tokens of the same batch are padded; pads are 0. */
  pad(plan: Padding): LogProbs {
    return new LogProbs(
      {
        prompt: this.prompt && plan.prompt(this.prompt, 0),
        response: this.response && plan.response(this.response, 0),
        full: this.full && plan.full(this.full, 0),
      },
      this.batchShape,
      { isPadded: true },
    );
  }

  /** A column as one array, row by row. Rows must have one length. */
  matrix(key: LogProbsKey): Matrix<Float32Array> {
    return toMatrix(this.get(key), this.batchShape);
  }

  /** A batch from other rows. */
  protected override derive(
    columns: Columns<LogProbsKey, Float32Array>,
    batchShape: BatchShape,
  ): this {
    return new LogProbs(columns, batchShape, { isPadded: this.isPadded }) as this;
  }
}
