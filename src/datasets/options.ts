/** Options of what opens a dataset. */
export interface DatasetOptions {
  /** Most rows. Default 10,000,000. */
  readonly maxRows?: number | undefined;
  /** Longest line of JSON lines, in bytes. Default 64 MiB. */
  readonly maxLineBytes?: number | undefined;
  /** Largest file that is read into memory (Parquet, JSON), in bytes. Default 4 GiB. */
  readonly maxFileBytes?: number | undefined;
  /** Cancels the opening. */
  readonly signal?: AbortSignal | undefined;
}

/** The options with defaults filled in. */
export interface DatasetSettings {
  readonly maxRows: number;
  readonly maxLineBytes: number;
  readonly maxFileBytes: number;
  readonly signal: AbortSignal | undefined;
}

/** Fills in the defaults. */
export function settingsOf(options: DatasetOptions): DatasetSettings {
  const { maxRows = 10_000_000, maxLineBytes = 2 ** 26, maxFileBytes = 2 ** 32 } = options;
  return { maxRows, maxLineBytes, maxFileBytes, signal: options.signal };
}

/** A row of a file: its columns by name. */
export type DatasetRow = Readonly<Record<string, unknown>>;
