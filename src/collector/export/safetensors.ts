import {
  type SafetensorsFile,
  safetensorsFile,
  type TensorToWrite,
  writeSafetensors,
} from "../../checkpoint/writer.ts";
import { ValidationError } from "../../errors.ts";
import { finishNames } from "../../rollout_file/record.ts";
import { infoText } from "../../rollout_file/row_line.ts";
import type { RolloutBatch } from "../batch.ts";
import type { RolloutRow } from "../row.ts";
import { ROLLOUT_SCHEMA } from "./json_lines.ts";

/** Bytes that are put together before they are written. */
const PIECE_BYTES = 1 << 20;

type DType = TensorToWrite["dtype"];

/**
 * A batch as tensors of a safetensors file. Ragged columns are laid end to end, and row `i` of
 * column `x` is `x[x_offsets[i]:x_offsets[i + 1]]`; the columns of the answer share
 * `response_offsets`. All names, types and shapes: `docs/collector.md`. The ragged columns are given
 * piece by piece when they are written, so that they are in memory only as rows.
 *
 * @throws {ValidationError} When a row with an answer has no prompt ids, or only some rows have
 *   log-probabilities or versions.
 */
export function toTensors(batch: RolloutBatch): TensorToWrite[] {
  const { rows } = batch;
  for (const row of rows) checkPrompt(row);
  return [
    ...ragged("prompt_ids", "int32", { rows, pick: (row) => row.promptIds ?? new Int32Array() }),
    ...ragged("response_ids", "int32", { rows, pick: (row) => row.responseIds }),
    ...optional("log_probs", "float32", { rows, pick: (row) => row.logProbs }),
    ...optional("token_versions", "int32", { rows, pick: (row) => row.tokenVersions }),
    ...texts("response_text", { rows, pick: textOf }),
    ...texts("info", { rows, pick: (row) => infoText(row.info) }),
    ...texts("server", { rows, pick: (row) => row.server ?? "" }),
    ...texts("weight_versions", { rows, pick: (row) => JSON.stringify(row.weightVersions) }),
    ...routed(rows),
    column("reward", "float32", Float32Array.from(rows, (row) => row.reward)),
    column("done", "bool", flags(rows, (row) => row.done)),
    column("truncated", "bool", flags(rows, (row) => row.truncated)),
    column("stale", "bool", flags(rows, (row) => batch.isStale(row))),
    column("versions_exact", "bool", flags(rows, (row) => row.versionsExact)),
    column(
      "finish_reason",
      "uint8",
      Uint8Array.from(rows, (row) => finishNames.indexOf(row.finishReason.type)),
    ),
    column("dialog", "int64", BigInt64Array.from(rows, (row) => BigInt(row.dialog))),
    column("group", "int64", BigInt64Array.from(rows, (row) => BigInt(row.group))),
    column("member", "int32", Int32Array.from(rows, (row) => row.member)),
    column("attempt", "int32", Int32Array.from(rows, (row) => row.attempt)),
    column("environment", "int32", Int32Array.from(rows, (row) => row.environment)),
    column("turn", "int32", Int32Array.from(rows, (row) => row.turn)),
    column("parent", "int32", Int32Array.from(rows, (row) => row.parent ?? -1)),
    column("branch", "int32", Int32Array.from(rows, (row) => row.branch)),
  ];
}

/**
 * Writes a batch as a safetensors file; it appears whole or not at all. Needs `--allow-write` and
 * `--allow-read` of its folder.
 */
export async function writeRollout(
  path: string,
  batch: RolloutBatch,
  options: { signal?: AbortSignal } = {},
): Promise<void> {
  const { signal } = options;
  await writeSafetensors(path, toTensors(batch), { metadata: metadataOf(batch), signal });
}

/** A batch as the bytes of the file that {@linkcode writeRollout} writes. */
export function rolloutFile(batch: RolloutBatch): SafetensorsFile {
  return safetensorsFile(toTensors(batch), metadataOf(batch));
}

function metadataOf(batch: RolloutBatch): Record<string, string> {
  return {
    schema: ROLLOUT_SCHEMA,
    shape: JSON.stringify(batch.shape),
    version_names: JSON.stringify(batch.versionNames),
    version_index: String(batch.versionIndex ?? ""),
    finish_reasons: JSON.stringify(finishNames),
  };
}

/** A turn in which nothing was sampled, at the end of a context, has no prompt of its own. */
function checkPrompt(row: RolloutRow): void {
  if (row.promptIds !== null || row.responseIds.length === 0) return;
  throw new ValidationError(
    `Cannot write dialog ${row.dialog}, turn ${row.turn}: its prompt ids are not known. Give the ` +
      "policy a tokenizer, or let the server return them",
  );
}

function textOf(row: RolloutRow): string {
  const { content } = row.response;
  if (content === null || content === undefined) return "";
  return typeof content === "string" ? content : content.map((part) => part.text ?? "").join("");
}

type Values = Int32Array | Float32Array | Uint8Array;

interface Column<T> {
  readonly rows: readonly RolloutRow[];
  readonly pick: (row: RolloutRow) => T;
}

function column(name: string, dtype: DType, data: BigInt64Array | Values): TensorToWrite {
  return { name, dtype, shape: [data.length], data };
}

/** Values of all rows end to end, and where each begins. */
function ragged(name: string, dtype: DType, { rows, pick }: Column<Values>): TensorToWrite[] {
  const offsets = new BigInt64Array(rows.length + 1);
  rows.forEach((row, i) => offsets[i + 1] = offsets[i]! + BigInt(pick(row).length));
  return [
    endToEnd(name, dtype, { rows, pick, length: Number(offsets.at(-1)) }),
    column(`${name.replace(/_ids$/, "")}_offsets`, "int64", offsets),
  ];
}

/** The experts of rows that have them, and the first position of each; -1 for rows without. */
function routed(rows: readonly RolloutRow[]): TensorToWrite[] {
  if (rows.every(({ routedExperts }) => routedExperts == null)) return [];
  const none = new Int32Array();
  return [
    ...ragged("routed_experts", "int32", {
      rows,
      pick: ({ routedExperts }) => routedExperts?.data ?? none,
    }),
    column(
      "routed_experts_start",
      "int32",
      Int32Array.from(rows, ({ routedExperts }) => routedExperts?.start ?? -1),
    ),
    column(
      "routed_experts_tokens",
      "int32",
      Int32Array.from(rows, ({ routedExperts }) => routedExperts?.tokens ?? 0),
    ),
  ];
}

/** A column of the answer that all rows have or none; it shares the answer's offsets. */
function optional(name: string, dtype: DType, { rows, pick }: Column<Values | null>) {
  const present = rows.reduce((count, row) => count + (pick(row) === null ? 0 : 1), 0);
  if (present === 0) return [];
  if (present < rows.length) {
    throw new ValidationError(`Cannot write ${name}: ${present} of ${rows.length} rows have it`);
  }
  const length = rows.reduce((sum, row) => sum + row.responseIds.length, 0);
  return [endToEnd(name, dtype, { rows, pick: (row) => pick(row)!, length })];
}

/** Texts, made and encoded twice: for their lengths, and when they are written. */
function texts(name: string, { rows, pick }: Column<string>): TensorToWrite[] {
  const scratch = new Scratch();
  return ragged(name, "uint8", { rows, pick: (row) => scratch.encode(pick(row)) });
}

/** Encodes into the same bytes again and again; what it gives holds until the next call. */
class Scratch {
  readonly #encoder = new TextEncoder();
  #bytes = new Uint8Array(4096);

  encode(text: string): Uint8Array {
    // At most three bytes of UTF-8 for each unit of UTF-16.
    if (this.#bytes.length < 3 * text.length) this.#bytes = new Uint8Array(4 * text.length);
    return this.#bytes.subarray(0, this.#encoder.encodeInto(text, this.#bytes).written);
  }
}

function endToEnd(
  name: string,
  dtype: DType,
  { rows, pick, length }: Column<Values> & { readonly length: number },
): TensorToWrite {
  return { name, dtype, shape: [length], data: () => pieces(rows, pick) };
}

function* pieces(
  rows: readonly RolloutRow[],
  pick: (row: RolloutRow) => Values,
): Generator<Uint8Array, void, void> {
  const held = new Uint8Array(PIECE_BYTES);
  let filled = 0;
  for (const row of rows) {
    const { buffer, byteOffset, byteLength } = pick(row);
    const bytes = new Uint8Array(buffer, byteOffset, byteLength);
    if (filled + byteLength > PIECE_BYTES) {
      yield held.subarray(0, filled);
      filled = 0;
    }
    if (byteLength > PIECE_BYTES) {
      yield bytes;
    } else {
      held.set(bytes, filled);
      filled += byteLength;
    }
  }
  yield held.subarray(0, filled);
}

function flags(rows: readonly RolloutRow[], pick: (row: RolloutRow) => boolean): Uint8Array {
  return Uint8Array.from(rows, (row) => pick(row) ? 1 : 0);
}
