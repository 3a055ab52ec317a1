import { type TensorToWrite, writeSafetensors } from "../../checkpoint/writer.ts";
import { ValidationError } from "../../errors.ts";
import type { RolloutBatch } from "../batch.ts";
import type { RolloutRow } from "../row.ts";
import { ROLLOUT_SCHEMA } from "./json_lines.ts";

const FINISH_REASONS = ["stop", "length", "abort"] as const;

/**
 * A batch as tensors of a safetensors file. Ragged columns are laid end to end, and row `i` of
 * column `x` is `x[x_offsets[i]:x_offsets[i + 1]]`; the columns of the answer share
 * `response_offsets`. All names, types and shapes: `docs/collector.md`.
 *
 * Throws a {@linkcode ValidationError} when a row has no prompt ids, or only some rows have
 * log-probabilities or versions.
 */
export function toTensors(batch: RolloutBatch): TensorToWrite[] {
  const { rows } = batch;
  const count = rows.length;
  const prompts = rows.map((row) => promptIdsOf(row));
  const responses = rows.map((row) => row.responseIds);
  const texts = rows.map((row) => new TextEncoder().encode(textOf(row)));
  return [
    ragged("prompt_ids", "int32", concat(Int32Array, prompts)),
    offsets("prompt_offsets", prompts),
    ragged("response_ids", "int32", concat(Int32Array, responses)),
    offsets("response_offsets", responses),
    ...optionalColumn(
      "log_probs",
      rows,
      (row) => row.logProbs,
      (columns) => ragged("log_probs", "float32", concat(Float32Array, columns)),
    ),
    ...optionalColumn(
      "token_versions",
      rows,
      (row) => row.tokenVersions,
      (columns) => ragged("token_versions", "int32", concat(Int32Array, columns)),
    ),
    ragged("response_text", "uint8", concat(Uint8Array, texts)),
    offsets("response_text_offsets", texts),
    column("reward", "float32", Float32Array.from(rows, (row) => row.reward)),
    column("done", "bool", flags(rows, (row) => row.done)),
    column("truncated", "bool", flags(rows, (row) => row.truncated)),
    column("stale", "bool", flags(rows, (row) => batch.isStale(row))),
    column("versions_exact", "bool", flags(rows, (row) => row.versionsExact)),
    column(
      "finish_reason",
      "uint8",
      Uint8Array.from(rows, (row) => FINISH_REASONS.indexOf(row.finishReason.type)),
    ),
    column("dialog", "int64", BigInt64Array.from(rows, (row) => BigInt(row.dialog))),
    column("attempt", "int32", Int32Array.from(rows, (row) => row.attempt)),
    column("environment", "int32", Int32Array.from(rows, (row) => row.environment)),
    column("turn", "int32", Int32Array.from(rows, (row) => row.turn)),
  ];

  function column(
    name: string,
    dtype: TensorToWrite["dtype"],
    data: ArrayBufferView,
  ): TensorToWrite {
    return { name, dtype, shape: [count], data };
  }
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
  const metadata = {
    schema: ROLLOUT_SCHEMA,
    shape: JSON.stringify(batch.shape),
    version_names: JSON.stringify(batch.versionNames),
    version_index: String(batch.versionIndex ?? ""),
    finish_reasons: JSON.stringify(FINISH_REASONS),
  };
  await writeSafetensors(path, toTensors(batch), { metadata, signal: options.signal });
}

function promptIdsOf(row: RolloutRow): Int32Array {
  if (row.promptIds !== null) return row.promptIds;
  throw new ValidationError(
    `Cannot write dialog ${row.dialog}, turn ${row.turn}: its prompt ids are not known. Give the ` +
      "policy a tokenizer, or let the server return them",
  );
}

function textOf(row: RolloutRow): string {
  const { content } = row.response;
  return typeof content === "string"
    ? content
    : (content ?? []).map((part) => part.text ?? "").join("");
}

/** A column that all rows have or none. */
function optionalColumn<T>(
  name: string,
  rows: readonly RolloutRow[],
  pick: (row: RolloutRow) => T | null,
  write: (columns: readonly T[]) => TensorToWrite,
): TensorToWrite[] {
  const present = rows.map(pick).filter((value) => value !== null);
  if (present.length === 0) return [];
  if (present.length < rows.length) {
    throw new ValidationError(
      `Cannot write ${name}: ${present.length} of ${rows.length} rows have it`,
    );
  }
  return [write(present)];
}

type Ragged = Int32Array | Float32Array | Uint8Array;

function concat<T extends Ragged>(
  make: new (length: number) => T,
  parts: readonly ArrayLike<number>[],
): T {
  const all = new make(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function ragged(name: string, dtype: TensorToWrite["dtype"], data: Ragged): TensorToWrite {
  return { name, dtype, shape: [data.length], data };
}

function offsets(name: string, parts: readonly ArrayLike<number>[]): TensorToWrite {
  const data = new BigInt64Array(parts.length + 1);
  parts.forEach((part, i) => data[i + 1] = data[i]! + BigInt(part.length));
  return { name, dtype: "int64", shape: [data.length], data };
}

function flags(rows: readonly RolloutRow[], pick: (row: RolloutRow) => boolean): Uint8Array {
  return Uint8Array.from(rows, (row) => pick(row) ? 1 : 0);
}
