import { ValidationError } from "../errors.ts";
import { openSource } from "../internal/byte_source.ts";
import { isCount, isRecord, parseRecord } from "../internal/json.ts";
import { findLines } from "../internal/line_index.ts";
import { pathOf } from "../internal/path_of.ts";
import { asPermissionError } from "../internal/permission.ts";
import { writeLines } from "../internal/write_all.ts";
import type { RolloutRow } from "./row.ts";
import { runtime } from "../runtime/mod.ts";
import { fromBase64, toBase64 } from "../internal/text_of_bytes.ts";

/** Name and version of the form of the first line. */
const SAVED_ROWS_SCHEMA = "sglang-rl.rows/1";
/** Longest line: a row of some ten million ids. */
const LONGEST_LINE_BYTES = 2 ** 28;
/** Lines that are read at once. */
const READ_AT_ONCE = 64;

/** What stands before the rows. */
export interface SavedHead {
  /** Rows in the file. */
  readonly rows: number;
  /** Rows that were ever added. */
  readonly added: number;
}

/**
 * Writes rows as they are, bit for bit: a line each, numbers as base64. The file appears whole or not
 * at all.
 */
export async function writeRows(
  place: string,
  rows: readonly RolloutRow[],
  { added, signal }: { readonly added: number; readonly signal: AbortSignal | undefined },
): Promise<void> {
  const path = pathOf(place, "a saved buffer");
  const part = `${path}.part`;
  try {
    {
      using file = await runtime().open(part, { write: true, create: true, truncate: true });
      const head = { schema: SAVED_ROWS_SCHEMA, rows: rows.length, added };
      await writeLines(file, savedLines(head, rows), { signal });
    }
    await runtime().rename(part, path);
  } catch (error) {
    await runtime().remove(part).catch(() => {});
    throw asPermissionError(error, `--allow-write=${path},${part}`, `write ${path}`);
  }
}

/**
 * Reads what {@linkcode writeRows} wrote.
 *
 * @throws {ValidationError} It is another file, or damaged; the message names the row.
 */
export async function* readRows(
  path: string,
  { signal }: { readonly signal: AbortSignal | undefined },
): AsyncGenerator<SavedHead | RolloutRow, void, void> {
  const source = await openSource(path, { signal });
  try {
    const limits = { maxRows: Number.MAX_SAFE_INTEGER, maxLineBytes: LONGEST_LINE_BYTES, signal };
    const lines = await findLines(source, limits);
    const count = lines.length;
    const [first] = count === 0 ? [] : await lines.read(0, 1);
    if (first instanceof Error) throw first;
    const head = headOf(first, path);
    if (head.rows !== count - 1) {
      throw new ValidationError(`${path} has ${count - 1} rows of ${head.rows}: it was cut`);
    }
    yield head;
    for (let at = 1; at < count; at += READ_AT_ONCE) {
      signal?.throwIfAborted();
      const texts = await lines.read(at, Math.min(count, at + READ_AT_ONCE));
      for (const [i, text] of texts.entries()) {
        if (text instanceof Error) throw text;
        yield rowOf(text, `${path}, row ${at - 1 + i}`);
      }
    }
  } finally {
    source.close();
  }
}

function headOf(line: string | undefined, path: string): SavedHead {
  const { schema, rows, added } = line === undefined ? {} as Json : parseRecord(line, path);
  if (schema === SAVED_ROWS_SCHEMA && isCount(rows) && isCount(added) && added >= rows) {
    return { rows, added };
  }
  throw new ValidationError(
    `${path} holds no rows of a replay buffer: its first line should have the schema ` +
      SAVED_ROWS_SCHEMA,
  );
}

type Json = Readonly<Record<string, unknown>>;

/** The lists of numbers of a row, and what they are lists of. */
const lists = {
  promptIds: Int32Array,
  responseIds: Int32Array,
  logProbs: Float32Array,
  tokenVersions: Int32Array,
} as const;

function* savedLines(head: object, rows: readonly RolloutRow[]): Generator<string, void, void> {
  yield `${JSON.stringify(head)}\n`;
  for (const row of rows) yield `${lineOf(row)}\n`;
}

function lineOf(row: RolloutRow): string {
  const { routedExperts } = row;
  const plain: Record<string, unknown> = { ...row };
  for (const name of Object.keys(lists) as (keyof typeof lists)[]) plain[name] = base64(row[name]);
  if (routedExperts) plain.routedExperts = { ...routedExperts, data: base64(routedExperts.data) };
  return JSON.stringify(plain);
}

function rowOf(line: string, where: string): RolloutRow {
  const plain: Record<string, unknown> = parseRecord(line, where);
  for (const [name, List] of Object.entries(lists)) {
    plain[name] = listOf(plain[name], List, { name, where });
  }
  if (isRecord(plain.routedExperts)) {
    const { data } = plain.routedExperts;
    const name = "routedExperts.data";
    plain.routedExperts = {
      ...plain.routedExperts,
      data: listOf(data, Int32Array, { name, where }),
    };
  }
  const row = plain as unknown as RolloutRow;
  const count = row.responseIds?.length;
  const isRow = count !== undefined && Number.isFinite(row.reward) &&
    isCount(row.dialog) && isCount(row.group) && isCount(row.turn) &&
    Array.isArray(row.messages) && isRecord(row.response) && isRecord(row.finishReason) &&
    [row.logProbs, row.tokenVersions].every((list) => list === null || list.length === count);
  if (isRow) return row;
  throw new ValidationError(`${where} is no whole row: the file was changed or is damaged`);
}

function base64(list: Int32Array | Float32Array | null): string | null {
  if (list === null) return null;
  return toBase64(new Uint8Array(list.buffer, list.byteOffset, list.byteLength));
}

function listOf(
  value: unknown,
  List: typeof Int32Array | typeof Float32Array,
  { name, where }: { readonly name: string; readonly where: string },
): Int32Array | Float32Array | null {
  if (value === null) return null;
  try {
    const bytes = fromBase64(value as string);
    if (bytes.byteLength % 4 === 0) return new List(bytes.buffer, 0, bytes.byteLength / 4);
  } catch { /* Told below. */ }
  throw new ValidationError(`${where}: ${name} is no list of numbers in base64`);
}
