import type { BatchShape } from "./batch_shape.ts";
import { type Columns, RowBatch } from "./row_batch.ts";

/** Columns of {@linkcode Text}. */
export type TextKey = "prompt" | "response" | "full";

/** Texts of prompts, responses and both. `full` is the prompt followed by the response. */
export class Text extends RowBatch<TextKey, string> {
  /** Prompts, or `null`. */
  get prompt(): readonly string[] | null {
    return this.column("prompt");
  }

  /** Responses, or `null`. */
  get response(): readonly string[] | null {
    return this.column("response");
  }

  /** Prompts and responses, or `null`. */
  get full(): readonly string[] | null {
    return this.column("full");
  }

  /** A batch from other rows. */
  protected override derive(columns: Columns<TextKey, string>, batchShape: BatchShape): this {
    return new Text(columns, batchShape) as this;
  }
}
