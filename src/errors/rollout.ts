/** What goes wrong with prompts and rows. */
import { SGLangError } from "./base.ts";

/** Token ids and the text they came from no longer agree. */
export class TokenDriftError extends SGLangError<"token_drift"> {
  /** Index of the first token that differs. */
  readonly index: number;
  /** Makes the error. */
  constructor(message: string, options: ErrorOptions & { index: number }) {
    super("token_drift", message, options);
    this.index = options.index;
  }
}

/** A prompt leaves no room for an answer in the model's context. */
export class ContextOverflowError extends SGLangError<"context_overflow"> {
  /** Tokens of the prompt; `null` when they are not known. */
  readonly promptTokens: number | null;
  /** Most tokens that a prompt may have. */
  readonly limit: number;
  /** Makes the error; the message is written from the fields. */
  constructor(options: ErrorOptions & { promptTokens: number | null; limit: number }) {
    const { promptTokens, limit } = options;
    const prompt = promptTokens === null ? "The prompt" : `The prompt of ${promptTokens} tokens`;
    super(
      "context_overflow",
      `${prompt} is too long: the server takes at most ${limit} tokens. Shorten it, or start the ` +
        "server with a longer context",
      options,
    );
    this.promptTokens = promptTokens;
    this.limit = limit;
  }
}

/** A row of a batch that failed. */
export interface RowFailure {
  /** Index of the row in the flat list of rows that were asked for. */
  readonly row: number;
  /** Why it failed. */
  readonly error: Error;
}

/** Some rows of a batch failed; the others are done and in `partial`. */
export class PartialResultError<Result = unknown> extends SGLangError<"partial"> {
  /** The rows that failed, and why. */
  readonly failures: readonly RowFailure[];
  /** Indices of the rows that are done, in the order of `partial`. */
  readonly rows: readonly number[];
  /** The result of the rows that are done. */
  readonly partial: Result;
  /** Makes the error; the message is written from the fields. */
  constructor(
    options: { failures: readonly RowFailure[]; rows: readonly number[]; partial: Result },
  ) {
    const { failures, rows, partial } = options;
    const count = failures.length + rows.length;
    const named = failures.slice(0, 3).map(({ row, error }) => `row ${row}: ${error.message}`);
    const more = failures.length > 3 ? `; and ${failures.length - 3} more` : "";
    super(
      "partial",
      `${failures.length} of ${count} rows failed (${named.join("; ")}${more}). The other ` +
        `${rows.length} are in error.partial`,
      { cause: failures[0]?.error },
    );
    this.failures = failures;
    this.rows = rows;
    this.partial = partial;
  }
}

/** A chat template used more than it may: see `TemplateLimits`. It is refused, not run to its end. */
export class TemplateLimitError extends SGLangError<"template_limit"> {
  /** Which limit it reached. */
  readonly limit: string;
  /** How much it is. */
  readonly allowed: number;
  /** Makes the error. */
  constructor(limit: string, allowed: number, options?: ErrorOptions) {
    super(
      "template_limit",
      `The chat template was stopped at its limit ${limit} = ${allowed}. A template of a model that ` +
        "you do not trust may be made to hang a program; if this one is meant to do so much, " +
        "give larger limits: `templateLimits` of a wrapper",
      options,
    );
    this.limit = limit;
    this.allowed = allowed;
  }
}
