import { exitCodeOf, exitCodes } from "../exit_codes.ts";

/** One thing that the doctor looked at. */
export interface Finding {
  /** `note`: not needed by everybody. */
  readonly state: "fine" | "note" | "broken";
  readonly what: string;
  readonly detail: string;
  /** What to do about it; `null` when there is nothing to do. */
  readonly advice: string | null;
  /** Whether nobody answers at an address that was given. */
  readonly isUnreachable: boolean;
}

/** All is well. */
export function fine(what: string, detail: string): Finding {
  return { state: "fine", what, detail, advice: null, isUnreachable: false };
}

/** Missing, but only some need it. */
export function note(what: string, detail: string, advice: string): Finding {
  return { state: "note", what, detail, advice, isUnreachable: false };
}

/** Cannot work; `error` is why, where something was tried. */
export function broken(what: string, detail: string, advice: string, error?: unknown): Finding {
  const isUnreachable = exitCodeOf(error) === exitCodes.unreachable;
  return { state: "broken", what, detail, advice, isUnreachable };
}
