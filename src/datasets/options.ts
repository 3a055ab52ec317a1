import { ValidationError } from "../errors.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Options of what opens a dataset. */
export interface DatasetOptions {
  /** Most rows. Default 10,000,000. */
  readonly maxRows?: number | undefined;
  /** Longest line of JSON lines, in bytes. Default 64 MiB. */
  readonly maxLineBytes?: number | undefined;
  /**
   * Of Parquet: most bytes of rows that are held at once, counted as the file does before compression;
   * as objects they take some times as much. A single row group may have as many. Default 1 GiB.
   */
  readonly maxMemoryBytes?: number | undefined;
  /** Cancels the opening. */
  readonly signal?: AbortSignal | undefined;
}

/** The options with defaults filled in. */
export interface DatasetSettings {
  readonly maxRows: number;
  readonly maxLineBytes: number;
  readonly maxMemoryBytes: number;
  readonly signal: AbortSignal | undefined;
}

/** The names of {@linkcode DatasetOptions}. */
export const DATASET_OPTION_NAMES = {
  maxRows: true,
  maxLineBytes: true,
  maxMemoryBytes: true,
  signal: true,
} as const satisfies OptionNames<DatasetOptions>;

/** Checks the options and fills in the defaults; throws a {@linkcode ValidationError}. */
export function settingsOf(options: DatasetOptions): DatasetSettings {
  checkOptionNames(options, DATASET_OPTION_NAMES, "a dataset");
  const { maxRows = 10_000_000, maxLineBytes = 2 ** 26, maxMemoryBytes = 2 ** 30 } = options;
  const limits = { maxRows, maxLineBytes, maxMemoryBytes };
  for (const [name, value] of Object.entries(limits)) {
    if (value === Infinity || (Number.isSafeInteger(value) && value > 0)) continue;
    throw new ValidationError(`Dataset: ${name} must be a whole number above 0, not ${value}`);
  }
  return { ...limits, signal: options.signal };
}

/** A row of a file: its columns by name. */
export type DatasetRow = Readonly<Record<string, unknown>>;
