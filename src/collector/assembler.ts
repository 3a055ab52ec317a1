import type { WholeGroup } from "./groups.ts";
import type { CollectorPlan } from "./options.ts";
import type { RolloutRow } from "./row.ts";

/** Rows that were put together, and their shape. */
export interface Assembled {
  readonly rows: readonly RolloutRow[];
  readonly shape: readonly number[];
}

/** Decides over the rows of dialogs that belong together, at the moment when they would be given out. */
export type Admit = (dialogs: readonly (readonly RolloutRow[])[]) => boolean;

/** Puts rows together to batches. One class for each way of doing so. */
export interface Assembler {
  /** Takes a row as soon as it is made. */
  addRow(row: RolloutRow): void;
  /** Takes dialogs that came to their end and are given out together. */
  addDialogs(dialogs: WholeGroup): void;
  /** Gives out a batch when there is one; with `final` also a smaller one. */
  take(admit: Admit, final: boolean): Assembled | null;
  /** Whether a turn of this environment is wanted for the next batch. */
  wants(environment: number): boolean;
  /** Elements that wait to be given out. */
  readonly waiting: number;
}

/** Turns of environments that go in step: `(environments, turns)`, never left out. */
export class GridAssembler implements Assembler {
  readonly #turns: number;
  readonly #columns: RolloutRow[][];
  readonly #flatten: boolean;

  constructor(options: { environments: number; turns: number; flatten: boolean }) {
    this.#turns = options.turns;
    this.#columns = Array.from({ length: options.environments }, () => []);
    this.#flatten = options.flatten;
  }

  addRow(row: RolloutRow): void {
    this.#columns[row.environment]!.push(row);
  }

  addDialogs(): void {}

  take(admit: Admit, final: boolean): Assembled | null {
    const isFull = this.#columns.every((column) => column.length >= this.#turns);
    if (!isFull && !(final && this.waiting > 0)) return null;
    const rows = this.#columns.flatMap((column) => column.splice(0, this.#turns));
    admit([rows]);
    const isFlat = this.#flatten || !isFull;
    return { rows, shape: isFlat ? [rows.length] : [this.#columns.length, this.#turns] };
  }

  wants(environment: number): boolean {
    return this.#columns[environment]!.length < this.#turns;
  }

  get waiting(): number {
    return this.#columns.reduce((sum, column) => sum + column.length, 0);
  }
}

/** Turns in the order in which they were made: exactly `count` a batch. */
export class StepAssembler implements Assembler {
  readonly #count: number;
  #rows: RolloutRow[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  addRow(row: RolloutRow): void {
    this.#rows.push(row);
  }

  addDialogs(): void {}

  take(admit: Admit, final: boolean): Assembled | null {
    if (this.#rows.length < this.#count && !final) return null;
    this.#rows = this.#rows.filter((row) => admit([[row]]));
    if (this.#rows.length < this.#count && !(final && this.#rows.length > 0)) return null;
    const rows = this.#rows.splice(0, this.#count);
    return { rows, shape: [rows.length] };
  }

  wants(): boolean {
    return true;
  }

  get waiting(): number {
    return this.#rows.length;
  }
}

/** Whole dialogs, or whole groups of them: as many as it takes to reach `count` elements. */
export class WholeAssembler implements Assembler {
  readonly #count: number;
  readonly #onlyLast: boolean;
  #groups: WholeGroup[] = [];
  #waiting = 0;

  constructor(options: { count: number; onlyLast: boolean }) {
    this.#count = options.count;
    this.#onlyLast = options.onlyLast;
  }

  addRow(): void {}

  addDialogs(dialogs: WholeGroup): void {
    this.#groups.push(dialogs);
    this.#waiting += this.#sizeOf(dialogs);
  }

  take(admit: Admit, final: boolean): Assembled | null {
    if (this.#waiting < this.#count && !final) return null;
    // What was tried most often goes first: at the end of a full queue it would grow too old again.
    this.#groups = this.#groups.filter((group) => admit(group))
      .sort((a, b) => attemptsOf(b) - attemptsOf(a));
    this.#waiting = this.#groups.reduce((sum, group) => sum + this.#sizeOf(group), 0);
    if (this.#waiting < this.#count && !(final && this.#groups.length > 0)) return null;
    const rows: RolloutRow[] = [];
    let taken = 0;
    while (rows.length < this.#count && taken < this.#groups.length) {
      for (const dialog of this.#groups[taken++]!) {
        for (const row of this.#onlyLast ? dialog.slice(-1) : dialog) rows.push(row);
      }
    }
    this.#groups.splice(0, taken);
    this.#waiting -= rows.length;
    return { rows, shape: [rows.length] };
  }

  wants(): boolean {
    return true;
  }

  get waiting(): number {
    return this.#waiting;
  }

  #sizeOf(group: WholeGroup): number {
    if (this.#onlyLast) return group.length;
    return group.reduce((sum, rows) => sum + rows.length, 0);
  }
}

function attemptsOf(group: WholeGroup): number {
  return group.reduce((most, rows) => Math.max(most, rows[0]!.attempt), 0);
}

/** The assembler for a way of grouping. */
export function makeAssembler(
  plan: Pick<CollectorPlan, "grouping" | "flatten">,
  options: { perBatch: number; environments: number },
): Assembler {
  const { perBatch: count, environments } = options;
  if (plan.grouping === "steps") return new StepAssembler(count);
  if (plan.grouping === "trajectories") return new WholeAssembler({ count, onlyLast: false });
  if (plan.grouping === "last_steps") return new WholeAssembler({ count, onlyLast: true });
  const turns = Math.ceil(count / environments);
  return new GridAssembler({ environments, turns, flatten: plan.flatten });
}
