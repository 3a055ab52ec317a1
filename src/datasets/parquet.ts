import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { LimitError, SGLangError, UnsupportedError, ValidationError } from "../errors.ts";
import { type ByteSource, openSource } from "../internal/byte_source.ts";
import { firstWhere } from "../internal/first_where.ts";
import { isCount } from "../internal/json.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { messageOf } from "../internal/thrown.ts";
import { Dataset, type RowStore } from "./dataset.ts";
import { type DatasetOptions, type DatasetRow, settingsOf } from "./options.ts";

/** The metadata of some hundred thousand row groups. */
const LARGEST_METADATA_BYTES = 2 ** 28;

/**
 * A dataset of a Parquet file, which may be larger than memory: row groups are read when a row of
 * theirs is taken, and the last used ones are held, as many as `maxMemoryBytes` has room for. In the
 * file's order each is read once; shuffled, a file beyond `maxMemoryBytes` reads row groups again and
 * again, so let it have small ones. Snappy, gzip, brotli and zstd are read. Whole numbers of 64 bits
 * are numbers where that is exact, else bigints.
 *
 * Needs `--allow-read` of the file.
 *
 * @throws {ValidationError} For a file that is no Parquet, and later for a row group that is damaged.
 * @throws {LimitError} Above `maxRows`, or for a row group of more than `maxMemoryBytes`.
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
  const { maxRows, maxMemoryBytes, signal } = settingsOf(options);
  // The signal is for the opening; rows are read long after it.
  const source = await openSource(path, {});
  try {
    signal?.throwIfAborted();
    const groups = await readGroups(source, maxRows);
    signal?.throwIfAborted();
    return new ParquetRows(source, groups, maxMemoryBytes);
  } catch (error) {
    source.close();
    throw signal?.aborted === true ? error : asOurs(error, source.name);
  }
}

interface RowGroup {
  /** The file's metadata with this row group only. */
  readonly metadata: Metadata;
  readonly rows: number;
  /** Bytes before compression, as the file says. */
  readonly bytes: number;
}

type Parquet = typeof import("hyparquet");
type Metadata = Awaited<ReturnType<Parquet["parquetMetadataAsync"]>>;

async function readGroups(source: ByteSource, maxRows: number): Promise<readonly RowGroup[]> {
  const { parquetMetadataAsync } = await import("hyparquet");
  const metadata = await parquetMetadataAsync({
    byteLength: source.size,
    slice: (start, end = source.size) =>
      readPart(source, { start, end, maxBytes: LARGEST_METADATA_BYTES }),
  });
  const groups = metadata.row_groups.map((group): RowGroup => ({
    metadata: { ...metadata, row_groups: [group], num_rows: group.num_rows },
    rows: Number(group.num_rows),
    bytes: Number(group.total_byte_size),
  }));
  const count = groups.reduce((sum, { rows }) => sum + rows, 0);
  if (!groups.every(({ rows, bytes }) => isCount(rows) && isCount(bytes)) || !isCount(count)) {
    throw new ValidationError("its row groups have impossible sizes");
  }
  if (count > maxRows) {
    const { name } = source;
    throw new LimitError(`${name} has ${count} rows, more than maxRows, ${maxRows}`, {
      limit: "maxRows",
      max: maxRows,
    });
  }
  return groups.filter(({ rows }) => rows > 0);
}

/** The rows of a file, by row group; holds those that were used last. */
class ParquetRows implements RowStore<DatasetRow> {
  readonly length: number;
  readonly #source: ByteSource;
  readonly #groups: readonly RowGroup[];
  /** Where each group ends. */
  readonly #ends: readonly number[];
  readonly #maxBytes: number;
  /** By group, the one that was used last at the end. */
  readonly #held = new Map<number, Promise<readonly DatasetRow[]>>();
  /** What is unpacked at once would else be as many groups as there are who ask. */
  readonly #turn = new Semaphore(1);

  constructor(source: ByteSource, groups: readonly RowGroup[], maxBytes: number) {
    this.#source = source;
    this.#groups = groups;
    this.#maxBytes = maxBytes;
    let end = 0;
    this.#ends = groups.map(({ rows }) => end += rows);
    this.length = end;
  }

  async at(index: number): Promise<DatasetRow> {
    const group = firstWhere(this.#ends.length, (at) => this.#ends[at]! > index);
    const rows = await this.#rowsOf(group);
    return rows[index - (this.#ends[group - 1] ?? 0)]!;
  }

  close(): void {
    this.#held.clear();
    this.#source.close();
  }

  #rowsOf(index: number): Promise<readonly DatasetRow[]> {
    const rows = this.#held.get(index) ?? this.#read(index);
    this.#held.delete(index);
    this.#held.set(index, rows);
    return rows;
  }

  #read(index: number): Promise<readonly DatasetRow[]> {
    const rows = this.#load(index);
    // Whoever asked sees the error; the next one tries again.
    rows.catch(() => {
      if (this.#held.get(index) === rows) this.#held.delete(index);
    });
    return rows;
  }

  async #load(index: number): Promise<readonly DatasetRow[]> {
    const group = this.#groups[index]!;
    const { metadata, rows: count, bytes } = group;
    const { name } = this.#source;
    if (bytes > this.#maxBytes) throw tooLarge(`${name}: row group ${index}`, this.#maxBytes);
    using _turn = await this.#turn.acquire();
    this.#makeRoom(index);
    try {
      const { parquetReadObjects, snappyUncompress } = await import("hyparquet");
      const rows = await parquetReadObjects({
        file: await bytesOf(group, this.#source, this.#maxBytes),
        metadata,
        compressors: unpackers(this.#maxBytes, snappyUncompress),
      });
      if (rows.length !== count) throw new Error(`${rows.length} rows of ${count}`);
      return rows.map((row) => toPlain(row) as DatasetRow);
    } catch (error) {
      throw asOurs(error, `${name}, row group ${index}`);
    }
  }

  #makeRoom(index: number): void {
    let sum = 0;
    for (const held of this.#held.keys()) sum += this.#groups[held]!.bytes;
    for (const held of this.#held.keys()) {
      if (sum <= this.#maxBytes) return;
      if (held === index) continue;
      this.#held.delete(held);
      sum -= this.#groups[held]!.bytes;
    }
  }
}

interface BytesOfFile {
  readonly byteLength: number;
  slice(start: number, end?: number): Promise<ArrayBuffer>;
}

/**
 * Bytes for hyparquet 1.33, which makes a promise of each column by this one's `then()` and leaves one
 * whose name a damaged schema does not have to nobody: its fault would end the process.
 */
function toColumns(bytes: ArrayBuffer): Promise<ArrayBuffer> {
  const promise = Promise.resolve(bytes);
  const then = (...args: Parameters<typeof promise.then>) => {
    const column = Promise.prototype.then.apply(promise, args);
    column.catch(() => {});
    return column;
  };
  return Object.assign(promise, { then });
}

/**
 * The bytes of a row group, read before it is unpacked: a reader that gives up at the first fault
 * leaves its other reads to nobody.
 */
async function bytesOf(
  { metadata }: RowGroup,
  source: ByteSource,
  maxBytes: number,
): Promise<BytesOfFile> {
  const chunks = metadata.row_groups[0]!.columns.map(({ meta_data: chunk }) => {
    if (chunk === undefined) throw new ValidationError("it has columns in other files");
    const { dictionary_page_offset: dictionary, data_page_offset: data } = chunk;
    const start = Number(dictionary || data);
    return { start, end: start + Number(chunk.total_compressed_size) };
  });
  const start = Math.min(...chunks.map((chunk) => chunk.start));
  const end = Math.max(...chunks.map((chunk) => chunk.end));
  const bytes = await readPart(source, { start, end, maxBytes });
  const within = (place: number) => Math.max(0, place - start);
  return {
    byteLength: source.size,
    slice: (from, to = source.size) => toColumns(bytes.slice(within(from), within(to))),
  };
}

async function readPart(
  source: ByteSource,
  { start, end, maxBytes }: {
    readonly start: number;
    readonly end: number;
    readonly maxBytes: number;
  },
): Promise<ArrayBuffer> {
  if (!(start >= 0 && end <= source.size && start <= end)) {
    throw new ValidationError(`it names bytes ${start} to ${end} of ${source.size}`);
  }
  if (end - start > maxBytes) throw tooLarge(`A part of ${source.name}`, maxBytes);
  return (await source.read(start, end - start)).buffer;
}

function asOurs(error: unknown, where: string): unknown {
  if (error instanceof LimitError || error instanceof UnsupportedError) return error;
  // What a file that can be opened says of itself comes without its name.
  if (error instanceof SGLangError && !(error instanceof ValidationError)) return error;
  return new ValidationError(`${where} is no Parquet that can be read: ${messageOf(error)}`, {
    cause: error,
  });
}

function tooLarge(what: string, max: number): LimitError {
  return new LimitError(
    `${what} is larger than maxMemoryBytes, ${max}: write the file with smaller row groups, or ` +
      "allow more",
    { limit: "maxMemoryBytes", max },
  );
}

type Unpack = (input: Uint8Array, outputLength: number) => Uint8Array;

/** Unpacks pages, all of a row group together no more than `max` bytes, whatever the file says. */
function unpackers(
  max: number,
  snappyUncompress: (input: Uint8Array, output: Uint8Array) => void,
): Readonly<Record<string, Unpack>> {
  let left = max;
  const bounded = (unpack: Unpack): Unpack => (input, length) => {
    left -= length;
    if (left < 0) throw tooLarge("A row group", max);
    return unpack(input, Math.max(1, length));
  };
  return {
    SNAPPY: bounded((input, length) => {
      const output = new Uint8Array(length);
      snappyUncompress(input, output);
      return output;
    }),
    GZIP: bounded((input, maxOutputLength) => gunzipSync(input, { maxOutputLength })),
    BROTLI: bounded((input, maxOutputLength) => brotliDecompressSync(input, { maxOutputLength })),
    ZSTD: bounded((input, maxOutputLength) => zstdDecompressSync(input, { maxOutputLength })),
    LZ4_RAW: () => {
      throw new UnsupportedError(
        "Parquet compressed as LZ4 is not read: write it as zstd or snappy",
      );
    },
  };
}

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
