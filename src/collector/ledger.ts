/**
 * What a collector did so far. Dialogs that began are those that came to their end, those that were
 * given up, those that were left unfinished, and those that still run or wait for another try.
 */
export interface CollectorStats {
  /** Dialogs that began, without retries. */
  readonly dialogsStarted: number;
  /** Dialogs that came to their end. */
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
  /** Times that a dialog was run anew, after a failure or because it was stale. */
  readonly retries: number;
  /** Turns that were taken. */
  readonly turns: number;
  /** Tokens that were sampled. */
  readonly tokens: number;
  /** Rows that were given out. */
  readonly rowsYielded: number;
}

/** The same numbers, to be counted up. */
export type Ledger = { -readonly [Key in keyof CollectorStats]: CollectorStats[Key] };

/** A ledger with nothing in it. */
export function emptyLedger(): Ledger {
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
  };
}
