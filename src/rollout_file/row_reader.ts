import type { OptionNames } from "../internal/option_names.ts";
import { LimitError, ValidationError } from "../errors.ts";
import type { RolloutRecord, RolloutSchema } from "./record.ts";

/** Options of `readRollout`. */
export interface ReadRolloutOptions {
  /** Most rows of a file. Default 10,000,000; JSON lines take 8 bytes of memory for each. */
  readonly maxRows?: number | undefined;
  /** Longest line of a file of JSON lines, in bytes. Default 64 MiB. */
  readonly maxLineBytes?: number | undefined;
  /** Most bytes that one `rows()` reads. Default 256 MiB. */
  readonly maxWindowBytes?: number | undefined;
  /** Cancels the opening, and every read of a path after it. */
  readonly signal?: AbortSignal | undefined;
  /** Told while the lines of a file of JSON lines are looked for. */
  readonly onProgress?: ((progress: ReadProgress) => void) | undefined;
}

/** The names of all of them. */
export const READ_ROLLOUT_NAMES = {
  maxRows: true,
  maxLineBytes: true,
  maxWindowBytes: true,
  signal: true,
  onProgress: true,
} as const satisfies OptionNames<ReadRolloutOptions>;

/** How far the opening of a file is. */
export interface ReadProgress {
  /** Bytes that were looked at. */
  readonly bytes: number;
  /** Bytes of the file. */
  readonly totalBytes: number;
}

/** The options with defaults filled in. */
export type ReadSettings =
  & ReadRolloutOptions
  & { readonly [Name in "maxRows" | "maxLineBytes" | "maxWindowBytes"]: number };

/** Why a row cannot be read: the error names the file, the line or the row, and what is wrong. */
export type DamagedRow = ValidationError | LimitError;

/** How a file is written. */
export type RolloutForm = "json-lines" | "safetensors";

/** Reads rows of one form. */
export interface RowReader {
  readonly form: RolloutForm;
  readonly schema: RolloutSchema;
  readonly length: number;
  /** Names of the policy versions where the file lists them. */
  readonly versionNames: readonly string[] | null;
  /** About how many bytes the rows take, as far as it is known before they are read. */
  sizeOf(start: number, end: number): number | Promise<number>;
  /** `0 <= start <= end <= length`; a damaged row is an error and does not cost the others. */
  rows(start: number, end: number): Promise<(RolloutRecord | DamagedRow)[]>;
  /** The same rows as JSON lines, with all that the file has of them; none may be damaged. */
  lines(start: number, end: number): Promise<string>;
}

/** A row, or the error that says why it is none. */
export function orDamaged<T>(read: () => T): T | DamagedRow {
  try {
    return read();
  } catch (error) {
    if (error instanceof ValidationError || error instanceof LimitError) return error;
    throw error;
  }
}
