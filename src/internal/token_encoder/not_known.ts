import { ValidationError } from "../../errors.ts";

/**
 * A part of a `tokenizer.json` that is not known here. It is refused when the file is opened: ids that
 * are nearly those of Python would be wrong without a word.
 */
export class NotKnown extends ValidationError {
  /** What it is, such as `the model X`. */
  readonly part: string;

  /** Names the part. */
  constructor(part: string, options?: ErrorOptions) {
    super(
      `it has ${part}, which is not supported: leave the tokenizer out, so that the server makes the ` +
        "ids, or write the file without it",
      options,
    );
    this.part = part;
  }
}
