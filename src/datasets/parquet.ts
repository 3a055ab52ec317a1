import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { LimitError, SGLangError, UnsupportedError, ValidationError } from "../errors.ts";
import { pathOf, readRegularFile } from "../internal/regular_file.ts";
import { messageOf } from "../internal/thrown.ts";
import { Dataset, type RowStore } from "./dataset.ts";
import { type DatasetOptions, type DatasetRow, settingsOf } from "./options.ts";

/**
 * A dataset of a Parquet file, read into memory. Snappy, gzip, brotli and zstd are read. Whole numbers
 * of 64 bits are numbers where that is exact, else bigints.
 *
 * Needs `--allow-read` of the file.
 *
 * @throws {ValidationError} For a file that is no Parquet.
 * @throws {LimitError} Above `maxRows` or `maxFileBytes`.
 */
export async function parquetDataset(
  path: string | URL,
  options: DatasetOptions = {},
): Promise<Dataset<DatasetRow>> {
  return new Dataset(await parquetStore(path, options));
}

/** The rows of a Parquet file. */
export async function parquetStore(
  path: string | URL,
  options: DatasetOptions,
): Promise<RowStore<DatasetRow>> {
  const { maxRows, maxFileBytes, signal } = settingsOf(options);
  const { parquetMetadata, parquetReadObjects } = await import("hyparquet");
  const name = pathOf(path);
  // Read as a whole, since the rows will be in memory, too: a read that fails must not be left behind
  // by a reader that has given up already.
  const { buffer } = await readRegularFile(name, {
    limit: "maxFileBytes",
    maxBytes: maxFileBytes,
    signal,
    refuse: (message, options) => new ValidationError(message, options),
  });
  try {
    const metadata = parquetMetadata(buffer);
    const count = Number(metadata.num_rows);
    if (count > maxRows) {
      throw new LimitError(`${name} has ${count} rows, more than maxRows, ${maxRows}`, {
        limit: "maxRows",
        max: maxRows,
      });
    }
    const rows = await parquetReadObjects({ file: buffer, metadata, compressors });
    signal?.throwIfAborted();
    const plain = rows.map((row) => toPlain(row) as DatasetRow);
    return { length: plain.length, at: (index) => plain[index]! };
  } catch (error) {
    if (signal?.aborted === true || error instanceof SGLangError) throw error;
    throw new ValidationError(`${name} is no Parquet that can be read: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

type Decompress = (input: Uint8Array, outputLength: number) => Uint8Array;

/** A bound, so that a small page cannot become a large one. */
const bounded = (maxOutputLength: number) => ({ maxOutputLength: Math.max(1, maxOutputLength) });

const compressors: Readonly<Record<string, Decompress>> = {
  GZIP: (input, length) => gunzipSync(input, bounded(length)),
  BROTLI: (input, length) => brotliDecompressSync(input, bounded(length)),
  ZSTD: (input, length) => zstdDecompressSync(input, bounded(length)),
  LZ4_RAW: () => {
    throw new UnsupportedError("Parquet compressed as LZ4 is not read: write it as zstd or snappy");
  },
};

/** Exact whole numbers instead of bigints, also within lists and structs. */
function toPlain(value: unknown): unknown {
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }
  if (Array.isArray(value)) return value.map(toPlain);
  if (typeof value !== "object" || value === null) return value;
  const isPlain = Object.getPrototypeOf(value) === Object.prototype;
  if (!isPlain) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, toPlain(item)]));
}
