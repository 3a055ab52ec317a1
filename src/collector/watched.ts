/** What traces and metrics see of a collector. */
import { type Facts, isObserved, observed } from "../internal/observe.ts";
import type { RolloutBatch } from "./batch.ts";
import type { DialogRun } from "./dialog.ts";
import { oldestVersion, type RolloutRow } from "./row.ts";

/** Runs a dialog as an operation; `work` gives its rows. */
export async function watchDialog(
  collector: object,
  { dialog, attempt, group, member, index }: DialogRun,
  work: () => Promise<readonly RolloutRow[]>,
): Promise<void> {
  const facts: Facts = { dialog, attempt, group, member, environment: index };
  await observed("dialog", collector, facts, async (facts) => {
    const rows = await work();
    if (!isObserved()) return;
    facts.turns = rows.length;
    facts.outputTokens = rows.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
    facts.reward = rows.reduce((sum, { reward }) => sum + reward, 0);
    facts.isWhole = rows.at(-1)?.done ?? false;
    facts.isTruncated = rows.at(-1)?.truncated ?? false;
  });
}

/** Takes a turn as an operation. */
export function watchTurn<T extends { readonly row: RolloutRow }>(
  { dialog, group, member }: DialogRun,
  turn: number,
  work: () => Promise<T>,
): Promise<T> {
  return observed("turn", undefined, { dialog, group, member, turn }, async (facts) => {
    const taken = await work();
    const { responseIds, finishReason, reward, server } = taken.row;
    facts.outputTokens = responseIds.length;
    facts.finishReason = finishReason.type;
    facts.reward = reward;
    facts.server = server ?? undefined;
    return taken;
  });
}

/** Waits for a batch as an operation; `version` is the index of the present one. */
export function watchBatch(
  collector: object,
  work: () => Promise<RolloutBatch | null>,
): Promise<RolloutBatch | null> {
  return observed("batch", collector, {}, async (facts) => {
    const batch = await work();
    if (batch === null || !isObserved()) return batch;
    const { rows, versionIndex } = batch;
    const oldest = oldestVersion(rows);
    facts.rows = rows.length;
    facts.failures = batch.failures.length;
    facts.outputTokens = rows.reduce((sum, { responseIds }) => sum + responseIds.length, 0);
    if (oldest !== null && versionIndex !== null) facts.staleness = versionIndex - oldest;
    return batch;
  });
}
