import { LimitError, StateError, ValidationError } from "../errors.ts";
import { type ByteOrigin, type ByteSource, openSource } from "../internal/byte_source.ts";
import { openJsonLines } from "./json_lines.ts";
import type { RolloutRecord, RolloutSchema } from "./record.ts";
import type { ReadRolloutOptions, RolloutForm, RowReader } from "./row_reader.ts";
import { openSafetensors } from "./safetensors.ts";

const MIB = 2 ** 20;
/** What can be opened: a path (needs `--allow-read`), a `Blob` or `File`, or the bytes themselves. */
export type RolloutSource = ByteOrigin;

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
 * A row that is damaged throws when it is read, and the others can be read all the same.
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
    if (this.#isClosed) throw new StateError(`${this.#source.name} is closed: open it again`);
    if (!isPlace(start) || !isPlace(end) || start > end) {
      throw new ValidationError(`Cannot read rows ${start} to ${end} of ${this.#source.name}`);
    }
    const last = Math.min(end, this.length);
    if (start >= last) return [];
    const bytes = await this.#reader.sizeOf(start, last);
    if (bytes > this.#maxWindowBytes) {
      throw new LimitError(
        `${this.#source.name}: rows ${start} to ${last} have ${bytes} bytes, more than ` +
          `maxWindowBytes, ${this.#maxWindowBytes}; read fewer at once`,
        { limit: "maxWindowBytes", max: this.#maxWindowBytes },
      );
    }
    return await this.#reader.rows(start, last);
  }

  /** All rows one after the other; only some are in memory. */
  async *[Symbol.asyncIterator](): AsyncGenerator<RolloutRecord, void, void> {
    const most = Math.min(BYTES_AT_ONCE, this.#maxWindowBytes);
    for (let start = 0; start < this.length;) {
      let end = Math.min(start + ROWS_AT_ONCE, this.length);
      while (end > start + 1 && await this.#reader.sizeOf(start, end) > most) {
        end = start + ((end - start) >> 1);
      }
      yield* await this.rows(start, end);
      start = end;
    }
  }

  /** Closes the file. Safe to call twice. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#source.close();
    await Promise.resolve();
  }
}

function isPlace(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
