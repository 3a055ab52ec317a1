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

/** Fills in the defaults. */
export function settingsOf(options: DatasetOptions): DatasetSettings {
  const { maxRows = 10_000_000, maxLineBytes = 2 ** 26, maxMemoryBytes = 2 ** 30 } = options;
  return { maxRows, maxLineBytes, maxMemoryBytes, signal: options.signal };
}

/** A row of a file: its columns by name. */
export type DatasetRow = Readonly<Record<string, unknown>>;
