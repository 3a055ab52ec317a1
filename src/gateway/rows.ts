import type { RolloutRow } from "../collector/row.ts";
import { tokenVersions, wholeSpan } from "../collector/token_versions.ts";
import type { PolicyVersion } from "../collector/policy_version.ts";
import { rowsOfTurns } from "../rollout/tree.ts";
import type { DialogNumbers } from "./options.ts";
import type { RecordedTurn } from "./recorded_turn.ts";

/** What the rows of a session are stamped with. */
export interface RowStamp extends DialogNumbers {
  /** Tells which policy version made which ids; `null` without a tracker. */
  readonly versions: PolicyVersion | null;
  /** Reward of each turn. */
  readonly reward: (turn: RecordedTurn) => number;
  /** Whether the session was cut short. */
  readonly truncated: boolean;
  /** Kept in each row. */
  readonly info: Readonly<Record<string, unknown>>;
}

/** The turns of a session as rows, one for each turn, in the order in which they ended. */
export function rowsOf(records: readonly RecordedTurn[], stamp: RowStamp): RolloutRow[] {
  const { dialog, attempt, group, member, environment, versions, info } = stamp;
  const branchOf = new Map(
    rowsOfTurns(records.map(({ turn }) => turn)).flatMap(({ turns, branch }) =>
      turns.map((turn) => [turn, branch])
    ),
  );
  return records.map((record, index): RolloutRow => {
    const { turn: { prompt, sample, message }, parent } = record;
    const isLast = index === records.length - 1;
    const tags = versions === null ? null : tokenVersions(sample, {
      stampedIndex: record.stamp ?? versions.currentIndex,
      history: versions,
    });
    return {
      dialog,
      attempt,
      group,
      member,
      environment,
      turn: index,
      parent: parent?.number ?? null,
      branch: branchOf.get(record.turn)!,
      drift: prompt.drift,
      messages: prompt.messages,
      response: message,
      nextMessages: [...prompt.messages, message],
      promptIds: prompt.ids,
      responseIds: sample.ids,
      logProbs: sample.logProbs,
      reward: stamp.reward(record),
      done: isLast,
      truncated: isLast && stamp.truncated,
      finishReason: sample.finishReason,
      server: sample.server ?? null,
      weightVersions: sample.weightVersions ?? wholeSpan(sample),
      tokenVersions: tags?.versions ?? null,
      versionsExact: tags?.exact ?? false,
      info: {
        ...info,
        answer: record.id,
        model: record.model,
        ...(record.isRetry ? { retry: true } : {}),
        ...(record.isAborted ? { aborted: true } : {}),
      },
    };
  });
}
