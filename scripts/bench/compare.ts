/** Runs of bench/speed.ts, kept by machine and compared. */

/** One figure: ours by what stands beside it, so smaller is better. */
export interface SpeedRow {
  readonly name: string;
  readonly ratio: number;
  /** What was measured, for people. */
  readonly figures: string;
}

/** A run on one machine. */
export interface SpeedRun {
  /** Day, as `YYYY-MM-DD`. */
  readonly date: string;
  readonly commit: string;
  readonly rows: readonly SpeedRow[];
}

/** The last run of each machine, by what {@linkcode machineName} calls it. */
export type SpeedRuns = Readonly<Record<string, SpeedRun>>;

/** How much larger a ratio may be than before. */
export const SLOWER = 1.3;

/** What tells machines apart whose figures cannot be compared: processor, cores, Deno. */
export function machineName(cpuInfo: string, cores: number, deno: string): string {
  const model = /^model name\s*:\s*(.+)$/m.exec(cpuInfo)?.[1]?.trim() ?? "unknown processor";
  return `${model}, ${cores} cores, Deno ${deno}`;
}

/** What a comparison found, as lines for people. */
export interface Comparison {
  /** Rows that got slower by more than {@linkcode SLOWER}. */
  readonly slower: readonly string[];
  /** Rows that are new, and those that are gone: nothing can be said of them. */
  readonly apart: readonly string[];
}

/** Compares a run with the one before. */
export function compareRuns(before: readonly SpeedRow[], now: readonly SpeedRow[]): Comparison {
  const known = new Map(before.map((row) => [row.name, row]));
  const slower: string[] = [];
  const apart: string[] = [];
  for (const row of now) {
    const old = known.get(row.name);
    known.delete(row.name);
    if (old === undefined) apart.push(`${row.name}: not measured before`);
    else if (row.ratio > SLOWER * old.ratio) {
      slower.push(
        `${row.name}: ${(row.ratio / old.ratio).toFixed(2)} times as slow as before ` +
          `(${old.ratio.toFixed(2)}, now ${row.ratio.toFixed(2)}: ${row.figures})`,
      );
    }
  }
  for (const name of known.keys()) apart.push(`${name}: not measured now`);
  return { slower, apart };
}
