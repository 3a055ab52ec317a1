import type { RolloutBatch } from "../batch.ts";
import type { RolloutRow } from "../row.ts";

/** Name and version of the form in which batches go to a trainer; see `docs/collector.md`. */
export const ROLLOUT_SCHEMA = "sglang-rl.rollout/1";

/**
 * A batch as JSON lines: one object a row, in the batch's order, with the names of the table in
 * `docs/collector.md`. Numbers that JSON has no form for (a log-probability of -Infinity) are `null`.
 *
 * @example
 * ```ts ignore
 * await Deno.writeTextFile("batch.jsonl", toJsonLines(batch));
 * ```
 */
export function toJsonLines(batch: RolloutBatch): string {
  return batch.rows.map((row) => JSON.stringify(toRecord(batch, row)) + "\n").join("");
}

function toRecord(batch: RolloutBatch, row: RolloutRow): Record<string, unknown> {
  const { versionNames } = batch;
  return {
    schema: ROLLOUT_SCHEMA,
    dialog: row.dialog,
    attempt: row.attempt,
    environment: row.environment,
    turn: row.turn,
    messages: row.messages,
    response: row.response,
    prompt_ids: list(row.promptIds),
    response_ids: list(row.responseIds),
    log_probs: list(row.logProbs),
    token_versions: row.tokenVersions === null
      ? null
      : Array.from(row.tokenVersions, (index) => versionName(versionNames[index])),
    versions_exact: row.versionsExact,
    weight_versions: row.weightVersions,
    server: row.server,
    reward: row.reward,
    done: row.done,
    truncated: row.truncated,
    finish_reason: row.finishReason.type,
    stale: batch.isStale(row),
    info: row.info,
  };
}

/** Integer versions as numbers, UUIDs as they are; `null` for weights that nobody knows. */
function versionName(name: string | undefined): number | string | null {
  if (name === undefined) return null;
  return /^\d+$/.test(name) ? Number(name) : name;
}

function list(values: ArrayLike<number> | null): number[] | null {
  return values === null ? null : Array.from(values);
}
