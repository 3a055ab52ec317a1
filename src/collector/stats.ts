/**
 * What a collector did so far. It adds up at any moment:
 *
 * - `dialogsStarted` = `dialogsCompleted` + `dialogsFailed` + `dialogsAbandoned` + those that run
 *   ({@linkcode LLMCollector.running}) + `retriesWaiting`;
 * - `turns` = `rowsYielded` + `rowsStale` + `rowsUnused` + those that wait for the reader + where
 *   dialogs or groups are given out whole, those of dialogs that run and of groups that are not whole.
 */
export interface CollectorStats {
  /** Dialogs that began, without retries. */
  readonly dialogsStarted: number;
  /** Dialogs that came to their end and are not to be run again. */
  readonly dialogsCompleted: number;
  /** Dialogs that were given up after their tries. */
  readonly dialogsFailed: number;
  /** Dialogs that were left unfinished: by `resetAtEachIter`, at the end, or because their group needs them no more. */
  readonly dialogsAbandoned: number;
  /** Groups that were whole, or were given out as they were. */
  readonly groupsCompleted: number;
  /** Groups that were left out because members failed. */
  readonly groupsDropped: number;
  /** Groups that were left out for their rewards, or by `admitGroup`. */
  readonly groupsRefused: number;
  /** Dialogs that came to their end in groups that were left out. */
  readonly groupDialogsDropped: number;
  /** Dialogs or turns left out because they were older than the staleness bound. */
  readonly staleDropped: number;
  /** Rows that were given out although they were older than the staleness bound. */
  readonly staleKept: number;
  /** Times that a dialog was run again, after a failure or because it was stale. */
  readonly retries: number;
  /** Dialogs that wait to be run again. */
  readonly retriesWaiting: number;
  /** Turns that were taken. */
  readonly turns: number;
  /** Tokens that were sampled. */
  readonly tokens: number;
  /** Rows that were given out. */
  readonly rowsYielded: number;
  /** Rows left out because they were older than the staleness bound, or of unknown weights. */
  readonly rowsStale: number;
  /**
   * Rows that belong to no batch for another reason: of tries that failed or were left unfinished,
   * where dialogs are given out whole; of groups that are left out; and all but the last with
   * `yieldOnlyLastSteps`.
   */
  readonly rowsUnused: number;
}

/** The same numbers, to be counted up. */
export type MutableStats = {
  -readonly [Key in Exclude<keyof CollectorStats, "retriesWaiting">]: CollectorStats[Key];
};

/** A stats with nothing in it. */
export function emptyStats(): MutableStats {
  return {
    dialogsStarted: 0,
    dialogsCompleted: 0,
    dialogsFailed: 0,
    dialogsAbandoned: 0,
    groupsCompleted: 0,
    groupsDropped: 0,
    groupsRefused: 0,
    groupDialogsDropped: 0,
    staleDropped: 0,
    staleKept: 0,
    retries: 0,
    turns: 0,
    tokens: 0,
    rowsYielded: 0,
    rowsStale: 0,
    rowsUnused: 0,
  };
}
