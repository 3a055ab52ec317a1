/** One thing that the doctor looked at. */
export interface Finding {
  /** `note`: not needed by everybody. */
  readonly state: "fine" | "note" | "broken";
  readonly what: string;
  readonly detail: string;
  /** What to do about it; `null` when there is nothing to do. */
  readonly advice: string | null;
}

/** All is well. */
export function fine(what: string, detail: string): Finding {
  return { state: "fine", what, detail, advice: null };
}

/** Missing, but only some need it. */
export function note(what: string, detail: string, advice: string): Finding {
  return { state: "note", what, detail, advice };
}

/** Cannot work. */
export function broken(what: string, detail: string, advice: string): Finding {
  return { state: "broken", what, detail, advice };
}
