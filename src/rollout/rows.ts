import { beginsWith } from "./ids.ts";

/** One sampled turn, as {@linkcode joinTurns} reads it. A rollout row of the collector is one. */
export interface SampledTurn {
  /** Ids of the prompt `(P)`; `null` when not known, which begins a row. */
  readonly promptIds: Int32Array | null;
  /** The sampled ids `(R)`. */
  readonly responseIds: Int32Array;
  /** Log-probability of each sampled id `(R)`; `null` when not asked for. */
  readonly logProbs: Float32Array | null;
  /** Version of each sampled id `(R)`; `null` when not tracked. */
  readonly tokenVersions?: Int32Array | null | undefined;
}

/** Turns whose ids go on from each other, as one row of `N` ids. */
export interface JoinedRow<Item extends SampledTurn = SampledTurn> {
  /** The last turn's prompt and answer `(N)`. */
  readonly ids: Int32Array;
  /** 1 on ids that were sampled in one of the turns `(N)`. */
  readonly mask: Uint8Array;
  /** Log-probabilities `(N)`, 0 where the mask is 0; `null` when a turn has none. */
  readonly logProbs: Float32Array | null;
  /** Versions `(N)`, -1 where the mask is 0; `null` when a turn has none. */
  readonly tokenVersions: Int32Array | null;
  /** The turns in it, in order. */
  readonly turns: readonly Item[];
  /** Number of this row among those of the dialog: 0 for the first, 1 for the first branch. */
  readonly branch: number;
  /** Number of the row that the conversation comes from; `null` for the first. */
  readonly parent: number | null;
}

/**
 * Lays the turns of one dialog, in order, behind each other: a turn whose prompt begins with the ids
 * of the turn before goes on with its row, any other begins a row, a branch. So every sampled id is
 * in exactly one row, with the log-probability that it was sampled with.
 *
 * @example
 * ```ts
 * import { joinTurns } from "@sglang-rl/sglang-rl/rollout";
 *
 * const ids = (...list: number[]) => Int32Array.from(list);
 * const [row] = joinTurns([
 *   { promptIds: ids(1, 2), responseIds: ids(3), logProbs: Float32Array.of(-1) },
 *   { promptIds: ids(1, 2, 3, 4), responseIds: ids(5), logProbs: Float32Array.of(-2) },
 * ]);
 * console.log(row?.ids, row?.mask); // 1 2 3 4 5 and 0 0 1 0 1
 * ```
 */
export function joinTurns<Item extends SampledTurn>(turns: readonly Item[]): JoinedRow<Item>[] {
  const runs: Item[][] = [];
  for (const turn of turns) {
    const run = runs.at(-1);
    const before = run?.at(-1);
    if (run !== undefined && before !== undefined && goesOn(before, turn)) run.push(turn);
    else runs.push([turn]);
  }
  return runs.map((run, branch) => ({
    ...joined(run),
    turns: run,
    branch,
    parent: branch === 0 ? null : branch - 1,
  }));
}

/** Whether a turn's prompt begins with all ids of the turn before. */
export function goesOn(before: SampledTurn, turn: SampledTurn): boolean {
  const { promptIds: earlier, responseIds } = before;
  const { promptIds } = turn;
  if (promptIds === null || earlier === null) return false;
  return beginsWith(promptIds, earlier) &&
    beginsWith(promptIds.subarray(earlier.length), responseIds);
}

function joined(
  run: readonly SampledTurn[],
): Pick<JoinedRow, "ids" | "mask" | "logProbs" | "tokenVersions"> {
  const last = run.at(-1)!;
  const start = last.promptIds?.length ?? 0;
  const ids = new Int32Array(start + last.responseIds.length);
  ids.set(last.promptIds ?? []);
  ids.set(last.responseIds, start);
  const mask = new Uint8Array(ids.length);
  const logProbs = run.every((turn) => turn.logProbs !== null)
    ? new Float32Array(ids.length)
    : null;
  const tokenVersions = run.every((turn) => turn.tokenVersions)
    ? new Int32Array(ids.length).fill(-1)
    : null;
  for (const turn of run) {
    const at = turn.promptIds?.length ?? 0;
    mask.fill(1, at, at + turn.responseIds.length);
    logProbs?.set(turn.logProbs!, at);
    tokenVersions?.set(turn.tokenVersions!, at);
  }
  return { ids, mask, logProbs, tokenVersions };
}
