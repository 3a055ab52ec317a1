import { checkOptionNames } from "../internal/option_names.ts";
import { LimitError, StateError, ValidationError } from "../errors.ts";
import { type ByteOrigin, type ByteSource, openSource } from "../internal/byte_source.ts";
import { isCount } from "../internal/json.ts";
import { openJsonLines } from "./json_lines.ts";
import type { RolloutRecord, RolloutSchema } from "./record.ts";
import {
  type DamagedRow,
  READ_ROLLOUT_NAMES,
  type ReadRolloutOptions,
  type RolloutForm,
  type RowReader,
} from "./row_reader.ts";
import { openSafetensors } from "./safetensors.ts";

const MIB = 2 ** 20;
/** What can be opened: a path (needs `--allow-read`), a `Blob` or `File`, or the bytes themselves. */
export type RolloutSource = ByteOrigin;

/** One row of a file, or why it cannot be read. */
export type RolloutEntry =
  | { readonly row: number; readonly record: RolloutRecord; readonly damage?: undefined }
  | { readonly row: number; readonly record?: undefined; readonly damage: DamagedRow };

/** What an iteration reads at once, unless a single row is larger. */
const ROWS_AT_ONCE = 128;
const BYTES_AT_ONCE = 2 * MIB;

/**
 * Opens a rollout file: JSON lines or safetensors, which its first bytes tell, schema `/1` or `/2`.
 * Of safetensors only the header is read; JSON lines are looked through once for where they begin.
 * Rows are read when they are asked for.
 *
 * A path needs `--allow-read` of the file; a `Blob` needs nothing, so that a page can open a file.
 *
 * A row that is damaged throws when it is read, and the others can be read all the same:
 * `entries()` gives each row, or what is wrong with it and in which line.
 *
 * @throws {ValidationError} That says what is wrong with a file that is no rollout, and.
 * @throws {LimitError} For one that is larger than the limits.
 *
 * @example
 * ```ts ignore
 * import { readRollout } from "@sglang-rl/sglang-rl/rollout-file";
 *
 * await using file = await readRollout("rows.jsonl");
 * console.log(file.length, await file.rows(0, 10));
 * for await (const row of file) console.log(row.dialog, row.reward, row.responseText);
 * ```
 */
export async function readRollout(
  source: RolloutSource,
  options: ReadRolloutOptions = {},
): Promise<RolloutFile> {
  checkOptionNames(options, READ_ROLLOUT_NAMES, "readRollout()");
  const settings = {
    ...options,
    maxRows: options.maxRows ?? 10_000_000,
    maxLineBytes: options.maxLineBytes ?? 64 * MIB,
    maxWindowBytes: options.maxWindowBytes ?? 256 * MIB,
  };
  const bytes = await openSource(source, options);
  try {
    const open = await isSafetensors(bytes) ? openSafetensors : openJsonLines;
    return new RolloutFile(bytes, await open(bytes, settings), settings.maxWindowBytes);
  } catch (error) {
    bytes.close();
    throw error;
  }
}

/** JSON has no zero bytes; the length that a safetensors file begins with always has some. */
async function isSafetensors(source: ByteSource): Promise<boolean> {
  if (source.size < 8) return false;
  return (await source.read(0, 8)).includes(0);
}

/** An open rollout file; {@linkcode readRollout} makes it. */
export class RolloutFile implements AsyncDisposable {
  readonly #source: ByteSource;
  readonly #reader: RowReader;
  readonly #maxWindowBytes: number;
  #isClosed = false;

  /** For {@linkcode readRollout}. */
  constructor(source: ByteSource, reader: RowReader, maxWindowBytes: number) {
    this.#source = source;
    this.#reader = reader;
    this.#maxWindowBytes = maxWindowBytes;
  }

  /** How it is written. */
  get form(): RolloutForm {
    return this.#reader.form;
  }

  /** Its schema; that of the first row where every row names its own. */
  get schema(): RolloutSchema {
    return this.#reader.schema;
  }

  /** Number of rows. */
  get length(): number {
    return this.#reader.length;
  }

  /** Names of the policy versions by index; `null` for JSON lines, where each row names its own. */
  get versionNames(): readonly string[] | null {
    return this.#reader.versionNames;
  }

  /**
   * Reads rows `start` up to and without `end`, which may lie behind the last one.
   *
   * @throws {LimitError} For a window of more than `maxWindowBytes`, and.
   * @throws {ValidationError} For a damaged row.
   */
  async rows(start: number, end: number): Promise<RolloutRecord[]> {
    this.#needOpen();
    if (!isCount(start) || !isCount(end) || start > end) {
      throw new ValidationError(`Cannot read rows ${start} to ${end} of ${this.#source.name}`);
    }
    const last = Math.min(end, this.length);
    if (start >= last) return [];
    const tooLarge = await this.#tooLarge(start, last);
    if (tooLarge !== undefined) throw tooLarge;
    return (await this.#reader.rows(start, last)).map((row) => {
      if (row instanceof Error) throw row;
      return row;
    });
  }

  /**
   * Rows `start` up to and without `end` one after the other, each with what is wrong with it where
   * it is damaged; only some are in memory.
   */
  async *entries(start = 0, end = this.length): AsyncGenerator<RolloutEntry, void, void> {
    for await (const [at, next] of this.#windows(start, end)) {
      const rows = await this.#readable(at, next);
      for (const [i, row] of rows.entries()) {
        yield row instanceof Error ? { row: at + i, damage: row } : { row: at + i, record: row };
      }
    }
  }

  /** All rows one after the other; only some are in memory. A damaged one throws. */
  async *[Symbol.asyncIterator](): AsyncGenerator<RolloutRecord, void, void> {
    for await (const { record, damage } of this.entries()) {
      if (damage !== undefined) throw damage;
      yield record;
    }
  }

  /**
   * Rows `start` up to and without `end` as JSON lines, some at a time, each with everything that the
   * file has of it: of a file of JSON lines the very line, of safetensors also columns that no schema
   * knows.
   *
   * @throws {ValidationError} For a damaged row, and.
   * @throws {LimitError} For one of more than `maxWindowBytes`.
   */
  async *jsonLines(start = 0, end = this.length): AsyncGenerator<string, void, void> {
    for await (const [at, next] of this.#windows(start, end)) {
      const tooLarge = await this.#tooLarge(at, next);
      if (tooLarge !== undefined) throw tooLarge;
      yield await this.#reader.lines(at, next);
    }
  }

  /** About how many bytes some rows take; 0 when a column is too damaged to tell. */
  async bytesOf(start: number, end: number): Promise<number> {
    try {
      return await this.#reader.sizeOf(start, end);
    } catch (error) {
      if (error instanceof ValidationError) return 0;
      throw error;
    }
  }

  /** Where the windows begin and end in which rows are read one after the other. */
  async *#windows(start: number, end: number): AsyncGenerator<readonly [at: number, next: number]> {
    if (!isCount(start) || !isCount(end)) {
      throw new ValidationError(`Cannot read rows ${start} to ${end} of ${this.#source.name}`);
    }
    const last = Math.min(end, this.length);
    for (let at = start; at < last;) {
      this.#needOpen();
      const next = await this.#windowEnd(at, last);
      yield [at, next];
      at = next;
    }
  }

  #needOpen(): void {
    if (this.#isClosed) throw new StateError(`${this.#source.name} is closed: open it again`);
  }

  async #windowEnd(start: number, last: number): Promise<number> {
    const most = Math.min(BYTES_AT_ONCE, this.#maxWindowBytes);
    let end = Math.min(start + ROWS_AT_ONCE, last);
    while (end > start + 1 && await this.bytesOf(start, end) > most) {
      end = start + ((end - start) >> 1);
    }
    return end;
  }

  async #readable(start: number, end: number): Promise<readonly (RolloutRecord | DamagedRow)[]> {
    this.#needOpen();
    const tooLarge = await this.#tooLarge(start, end);
    // A window of several rows fits: it was made so.
    return tooLarge === undefined ? await this.#reader.rows(start, end) : [tooLarge];
  }

  async #tooLarge(start: number, end: number): Promise<LimitError | undefined> {
    const bytes = await this.bytesOf(start, end);
    if (bytes <= this.#maxWindowBytes) return undefined;
    const isOne = end === start + 1;
    return new LimitError(
      `${this.#source.name}: ` +
        (isOne ? `row ${start} has ` : `rows ${start} to ${end - 1} have `) +
        `${bytes} bytes, more than maxWindowBytes, ${this.#maxWindowBytes}` +
        (isOne ? "" : "; read fewer at once"),
      { limit: "maxWindowBytes", max: this.#maxWindowBytes },
    );
  }

  /** Closes the file. Safe to call twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#source.close();
    await Promise.resolve();
  }
}
