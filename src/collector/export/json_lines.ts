import { ValidationError } from "../../errors.ts";
import { asPermissionError } from "../../internal/permission.ts";
import type { RolloutBatch } from "../batch.ts";
import type { RolloutRow } from "../row.ts";

/** Name and version of the form in which batches go to a trainer; see `docs/collector.md`. */
export const ROLLOUT_SCHEMA = "sglang-rl.rollout/2";

/** Longest text of {@linkcode toJsonLines}: a text of V8 has at most 2^29 - 24 characters. */
const LONGEST_TEXT = 2 ** 29 - 24;
/** Characters that are written to a file at once. */
const WRITTEN_AT_ONCE = 1 << 20;

/**
 * A batch as JSON lines, one text for each row: one object, in the batch's order, with the names of
 * the table in `docs/collector.md`. Numbers that JSON has no form for (a log-probability of
 * -Infinity) are `null`. Only one line is in memory at a time.
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

/**
 * Writes a batch as JSON lines, about 1 MiB at a time. Needs `--allow-write` of the file.
 *
 * @example
 * ```ts ignore
 * for await (const batch of collector) await writeJsonLines("rows.jsonl", batch, { append: true });
 * ```
 */
export async function writeJsonLines(
  path: string,
  batch: RolloutBatch,
  options: WriteJsonLinesOptions = {},
): Promise<void> {
  const { append = false, signal } = options;
  try {
    using file = await Deno.open(path, {
      write: true,
      create: true,
      append,
      truncate: !append,
    });
    for (const text of inPieces(jsonLines(batch))) {
      signal?.throwIfAborted();
      await writeAll(file, new TextEncoder().encode(text));
    }
  } catch (error) {
    throw asPermissionError(error, `--allow-write=${path}`, `write ${path}`);
  }
}

function* inPieces(lines: Iterable<string>): Generator<string, void, void> {
  let held: string[] = [];
  let length = 0;
  for (const line of lines) {
    held.push(line);
    length += line.length;
    if (length < WRITTEN_AT_ONCE) continue;
    yield held.join("");
    held = [];
    length = 0;
  }
  yield held.join("");
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}

/**
 * One line. The lists of numbers are joined rather than copied into plain arrays, which would be
 * garbage of several times the size of the row.
 */
function toLine(batch: RolloutBatch, row: RolloutRow, names: readonly string[]): string {
  const ids = row.promptIds === null ? "null" : `[${row.promptIds.join()}]`;
  const versions = row.tokenVersions === null ? "null" : versionList(row.tokenVersions, names);
  const before = JSON.stringify({
    schema: ROLLOUT_SCHEMA,
    dialog: row.dialog,
    attempt: row.attempt,
    group: row.group,
    member: row.member,
    environment: row.environment,
    turn: row.turn,
    parent: row.parent,
    branch: row.branch,
    messages: row.messages,
    response: row.response,
  });
  const after = JSON.stringify({
    versions_exact: row.versionsExact,
    weight_versions: row.weightVersions,
    ...routedFields(row.routedExperts),
    server: row.server,
    reward: row.reward,
    done: row.done,
    truncated: row.truncated,
    finish_reason: row.finishReason.type,
    stale: batch.isStale(row),
    info: row.info,
  });
  return `${before.slice(0, -1)},"prompt_ids":${ids},"response_ids":[${row.responseIds.join()}],` +
    `"log_probs":${realList(row.logProbs)},"token_versions":${versions},${after.slice(1)}\n`;
}

/** The experts as base64 of int32, little-endian, `(tokens, layers, top-k)`; nothing where unknown. */
function routedFields(experts: RolloutRow["routedExperts"]): Record<string, unknown> {
  if (experts === null || experts === undefined) return {};
  const { start, tokens, perToken, data } = experts;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { routed_experts: { start, tokens, per_token: perToken, data: bytes.toBase64() } };
}

/** Numbers of JSON; what it has no form for is `null`. */
function realList(values: Float32Array | null): string {
  if (values === null) return "null";
  if (values.every(Number.isFinite)) return `[${values.join()}]`;
  return JSON.stringify(Array.from(values));
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
