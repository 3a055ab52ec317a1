import type { SyncProgress } from "../../../src/weights/mod.ts";

/** A place in a sync where something dies. */
export type Position = "before" | "middle" | "after";

/** The places, in order: paused but nothing sent; half of the bytes sent; all of them. */
export const positions: readonly Position[] = ["before", "middle", "after"];

/** Whether a sync has come there. */
export function isReached(position: Position, progress: SyncProgress): boolean {
  const { phase, bytesDone, bytesTotal } = progress;
  if (position === "before") return phase === "flush";
  if (position === "after") return phase === "synchronise";
  return phase === "update" && bytesDone > bytesTotal / 2;
}
