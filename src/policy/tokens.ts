import { StateError, ValidationError } from "../errors.ts";
import type { Sampled } from "../rollout/turn.ts";
import type { BatchShape } from "./batch_shape.ts";
import { type Matrix, Padding, type PadLayout, toMatrix } from "./padding.ts";
import { type Columns, RowBatch } from "./row_batch.ts";

/** Columns of {@linkcode Tokens}. */
export type TokensKey = "prompt" | "response" | "full";

/** How {@linkcode Tokens.pad} pads. */
export interface PadOptions {
  /** Id at the padded places. Masks tell pads from tokens, so it may be the end-of-sequence id. */
  readonly padId: number;
  /** Where pads go. Default `"left"`. */
  readonly layout?: PadLayout | undefined;
}

/**
 * Token ids of prompts, responses and both, one `Int32Array` a row.
 *
 * Rows are ragged until {@linkcode Tokens.pad} is called. `full` is the prompt followed by the
 * response, id for id as the model saw and made them.
 *
 * @example
 * ```ts
 * import { Tokens } from "@sglang-rl/sglang-rl";
 *
 * const tokens = new Tokens({
 *   prompt: [Int32Array.of(7, 8, 9), Int32Array.of(7)],
 *   response: [Int32Array.of(0), Int32Array.of(0, 1)],
 * });
 * const { data, shape } = tokens.pad({ padId: 256 }).matrix("response"); // shape [2, 2]
 * ```
 */
export class Tokens extends RowBatch<TokensKey, Int32Array> {
  /** How the rows were padded; `null` for ragged rows. */
  readonly padding: Padding | null;
  /**
   * Where each row was sampled, as a flat list: a wrapper then knows the row's ids however the text
   * would be tokenised. `null` where a row, or the whole batch, was not sampled by a wrapper.
   */
  readonly sampled: readonly (Sampled | null)[] | null;

  /** Makes tokens from flat lists of rows; see {@linkcode RowBatch} for the shape. */
  constructor(
    columns: Columns<TokensKey, Int32Array>,
    batchShape?: BatchShape,
    options: {
      padding?: Padding | null | undefined;
      sampled?: readonly (Sampled | null)[] | null | undefined;
    } = {},
  ) {
    super(columns, batchShape);
    this.padding = options.padding ?? null;
    this.sampled = options.sampled ?? null;
  }

  /** Prompt ids, or `null`. Row shape `(P)`. */
  get prompt(): readonly Int32Array[] | null {
    return this.column("prompt");
  }

  /** Response ids, or `null`. Row shape `(R)`. */
  get response(): readonly Int32Array[] | null {
    return this.column("response");
  }

  /** Prompt and response ids, or `null`. Row shape `(P + R)`. */
  get full(): readonly Int32Array[] | null {
    return this.column("full");
  }

  /** Whether rows are padded to one length. */
  get isPadded(): boolean {
    return this.padding !== null;
  }

  /** The plan by which these rows, and masks and log-probs of the same batch, are padded. */
  paddingPlan(layout: PadLayout = "left"): Padding {
    if (this.padding !== null) throw new StateError("Tokens are padded already");
    const lengths = (key: TokensKey) => this.column(key)?.map((row) => row.length);
    return new Padding(
      { prompt: lengths("prompt"), response: lengths("response"), full: lengths("full") },
      layout,
    );
  }

  /** The same tokens with rows of one length. */
  pad(options: PadOptions): Tokens {
    if (!Number.isInteger(options.padId)) {
      throw new ValidationError(`padId must be a token id, got ${String(options.padId)}`);
    }
    const plan = this.paddingPlan(options.layout);
    const { padId } = options;
    const columns = {
      prompt: this.prompt && plan.prompt(this.prompt, padId),
      response: this.response && plan.response(this.response, padId),
      full: this.full && plan.full(this.full, padId),
    };
    return new Tokens(columns, this.batchShape, { padding: plan, sampled: this.sampled });
  }

  /** The same tokens without pads, exactly as before {@linkcode Tokens.pad}. */
  unpad(): Tokens {
    const { padding } = this;
    if (padding === null) return this;
    const columns = {
      prompt: this.prompt && padding.unpadPrompt(this.prompt),
      response: this.response && padding.unpadResponse(this.response),
      full: this.full && padding.unpadFull(this.full),
    };
    return new Tokens(columns, this.batchShape, { sampled: this.sampled });
  }

  /** A column as one array, row by row. Rows must have one length. */
  matrix(key: TokensKey): Matrix<Int32Array> {
    return toMatrix(this.get(key), this.batchShape);
  }

  /** A batch from other rows. */
  protected override derive(
    columns: Columns<TokensKey, Int32Array>,
    batchShape: BatchShape,
    indices?: readonly number[],
  ): this {
    const padding = indices ? this.padding?.select(indices) : this.padding;
    const sampled = indices ? indices.map((index) => this.sampled?.[index] ?? null) : this.sampled;
    return new Tokens(columns, batchShape, { padding, sampled }) as this;
  }
}
