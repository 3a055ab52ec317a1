/** What a collector did so far. Dialogs that began = collected + failed + dropped + still running. */
export interface CollectorStats {
  /** Dialogs that began, without retries. */
  readonly dialogsStarted: number;
  /** Dialogs that came to their end. */
  readonly dialogsCompleted: number;
  /** Dialogs that were given up after their tries. */
  readonly dialogsFailed: number;
  /** Dialogs that were left unfinished: by `resetAtEachIter`, or because the end was reached. */
  readonly dialogsAbandoned: number;
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
    staleDropped: 0,
    staleKept: 0,
    retries: 0,
    turns: 0,
    tokens: 0,
    rowsYielded: 0,
  };
}
