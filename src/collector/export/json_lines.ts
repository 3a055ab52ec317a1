import { ValidationError } from "../../errors.ts";
import { pathOf } from "../../internal/path_of.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { writeLines } from "../../internal/write_all.ts";
import { rowLine } from "../../rollout_file/row_line.ts";
import type { RolloutBatch } from "../batch.ts";
import type { RolloutRow } from "../row.ts";
import { runtime } from "../../runtime/mod.ts";
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";

export { ROLLOUT_SCHEMA } from "../../rollout_file/record.ts";

/** Longest text of {@linkcode toJsonLines}: a text of V8 has at most 2^29 - 24 characters. */
const LONGEST_TEXT = 2 ** 29 - 24;

/**
 * A batch as JSON lines, one text for each row: one object, in the batch's order, with the names of
 * the table in `docs/collector.md`. A log-probability of -Infinity is `null`, other numbers that are
 * not finite are `1e999`, `-1e999` and `"NaN"`. Only one line is in memory at a time.
 *
 * @example
 * ```ts ignore
 * for (const line of jsonLines(batch)) socket.send(line);
 * ```
 */
export function* jsonLines(batch: RolloutBatch): Generator<string, void, void> {
  const names = batch.versionNames.map(versionText);
  for (const row of batch.rows) yield toLine(batch, row, names);
}

/**
 * The same as one text, for small batches.
 *
 * @throws {ValidationError} When it would be longer than a text can be.
 */
export function toJsonLines(batch: RolloutBatch): string {
  const lines: string[] = [];
  let length = 0;
  for (const line of jsonLines(batch)) {
    length += line.length;
    if (length > LONGEST_TEXT) {
      throw new ValidationError(
        `A batch of ${batch.length} rows is too long for one text; use jsonLines() or ` +
          "writeJsonLines()",
      );
    }
    lines.push(line);
  }
  return lines.join("");
}

/** Options of {@linkcode writeJsonLines}. */
export interface WriteJsonLinesOptions {
  /** Go on with a file that is there. Default false: it begins again. */
  readonly append?: boolean | undefined;
  /** Cancels the write; whole lines that were written stay. */
  readonly signal?: AbortSignal | undefined;
}

const OPTION_NAMES = {
  append: true,
  signal: true,
} as const satisfies OptionNames<WriteJsonLinesOptions>;

/**
 * Writes a batch as JSON lines, about 1 MiB at a time. Needs `--allow-write` of the file.
 *
 * @example
 * ```ts ignore
 * for await (const batch of collector) await writeJsonLines("rows.jsonl", batch, { append: true });
 * ```
 */
export async function writeJsonLines(
  place: string,
  batch: RolloutBatch,
  options: WriteJsonLinesOptions = {},
): Promise<void> {
  checkOptionNames(options, OPTION_NAMES, "writeJsonLines()");
  const path = pathOf(place, "JSON lines");
  const { append = false, signal } = options;
  try {
    using file = await runtime().open(path, {
      write: true,
      create: true,
      append,
      truncate: !append,
    });
    await writeLines(file, jsonLines(batch), { signal });
  } catch (error) {
    throw asPermissionError(error, `--allow-write=${path}`, `write ${path}`);
  }
}

function toLine(batch: RolloutBatch, row: RolloutRow, names: readonly string[]): string {
  const versions = row.tokenVersions === null ? "null" : versionList(row.tokenVersions, names);
  const { finishReason: { type: finishReason } } = row;
  return rowLine({ ...row, finishReason, stale: batch.isStale(row) }, versions);
}

/** Mostly all tokens are of one version. */
function versionList(versions: Int32Array, names: readonly string[]): string {
  const first = versions[0];
  const nameOf = (index: number | undefined) => names[index!] ?? "null";
  if (versions.every((index) => index === first)) {
    return `[${`${nameOf(first)},`.repeat(versions.length).slice(0, -1)}]`;
  }
  return `[${Array.from(versions, nameOf).join()}]`;
}

/** Integer versions as numbers, UUIDs as they are; those that nobody knows become `null`. */
function versionText(name: string): string {
  return /^\d+$/.test(name) ? String(Number(name)) : JSON.stringify(name);
}
