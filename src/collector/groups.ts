import { beginObserved, isObserved, type Watch } from "../internal/observe.ts";
import type { RolloutRow, Trajectory } from "./row.ts";
import type { Task, TaskQueue } from "./tasks.ts";

/** What becomes of a group whose members do not all come to their end. */
export type IncompleteGroups = "fill" | "drop" | "keep";

/** How dialogs are grouped. */
export interface GroupPlan {
  /** Members that a group is given out with. */
  readonly size: number;
  /** Members that are begun besides, of which the last ones to end are left out. */
  readonly spares: number;
  readonly incomplete: IncompleteGroups;
  /** Times that failed members of one group are run again before it is dropped. */
  readonly maxRefills: number;
  /** Leave out groups in which every dialog has the same reward. */
  readonly dropFlat: boolean;
  readonly admit: ((rows: readonly RolloutRow[]) => boolean) | null;
}

/** The dialogs of a whole group, by member. */
export type WholeGroup = readonly (readonly RolloutRow[])[];

/** What became of a failed member. */
export type MemberOutcome =
  | { readonly kind: "again" }
  | {
    readonly kind: "given up";
    /** The group, where it is whole without this member. */
    readonly group: WholeGroup | null;
    /** Whether nothing more comes of the group. */
    readonly isOver: boolean;
  };

interface OpenGroup {
  readonly done: Map<number, readonly RolloutRow[]>;
  /** Members that have not ended. */
  alive: number;
  refills: number;
}

/** Options of {@linkcode Groups}. */
export interface GroupsOptions {
  readonly plan: GroupPlan;
  readonly tasks: TaskQueue;
  /** Ends the members of a group that still run, and takes out those that wait. */
  readonly abandon: (group: number) => void;
  /** Told when dialogs that came to their end are not given out, because their group is not. */
  readonly onDropped: (dialogs: WholeGroup) => void;
}

/** Keeps the members of each group together until the group is whole or cannot become so. */
export class Groups {
  readonly #options: GroupsOptions;
  readonly #open = new Map<number, OpenGroup>();
  /** Groups as those see them who look: from their first member's begin to their end. */
  readonly #watches = new Map<number, Watch>();

  constructor(options: GroupsOptions) {
    this.#options = options;
  }

  /** Runs a member so that what it does belongs to its group, for those who look. */
  within<T>(group: number, member: () => T): T {
    if (!isObserved()) return member();
    const known = this.#watches.get(group);
    const watch = known ??
      beginObserved({ name: "group", subject: undefined, facts: { group } });
    if (known === undefined) this.#watches.set(group, watch);
    return watch.within!(member);
  }

  /** Takes a dialog that came to its end; gives its group when that is whole. */
  addTrajectory({ rows }: Trajectory): WholeGroup | null {
    const { group, member } = rows[0]!;
    const open = this.#of(group);
    const [[first] = []] = open.done.values();
    if (first !== undefined) sharePrompt(first, rows[0]!);
    open.done.set(member, rows);
    open.alive--;
    return this.#settle(group, open);
  }

  /** Takes a dialog that failed in all its tries. */
  addFailure({ group }: Task): MemberOutcome {
    const { incomplete, size, maxRefills } = this.#options.plan;
    const open = this.#of(group);
    const canBeWhole = open.done.size + open.alive - 1 >= size;
    if (incomplete === "fill" && !canBeWhole && open.refills < maxRefills) {
      open.refills++;
      return { kind: "again" };
    }
    open.alive--;
    if (canBeWhole || incomplete === "keep") {
      const whole = this.#settle(group, open);
      return { kind: "given up", group: whole, isOver: whole === null && !this.#open.has(group) };
    }
    this.#options.onDropped([...open.done.values()]);
    this.#close(group, open);
    return { kind: "given up", group: null, isOver: true };
  }

  /** Takes a group back whose members are all run again. */
  reopen(group: WholeGroup): void {
    const rows = group.map((dialog) => dialog[0]!);
    this.#open.set(rows[0]!.group, { done: new Map(), alive: rows.length, refills: 0 });
    for (const row of rows) this.#options.tasks.again(row);
  }

  /** Lets go of the groups that are not whole; gives the dialogs that they had. */
  forget(): WholeGroup {
    const left = [...this.#open.values()].flatMap(({ done }) => [...done.values()]);
    for (const watch of this.#watches.values()) watch.end();
    this.#watches.clear();
    this.#open.clear();
    return left;
  }

  #of(group: number): OpenGroup {
    const known = this.#open.get(group);
    if (known !== undefined) return known;
    const { size, spares } = this.#options.plan;
    const made = { done: new Map(), alive: size + spares, refills: 0 };
    this.#open.set(group, made);
    return made;
  }

  #settle(group: number, open: OpenGroup): WholeGroup | null {
    const isWhole = open.done.size >= this.#options.plan.size;
    if (!isWhole && open.alive > 0) return null;
    this.#close(group, open);
    if (open.done.size === 0) return null;
    return [...open.done].sort(([a], [b]) => a - b).map(([, rows]) => rows);
  }

  #close(group: number, open: OpenGroup): void {
    this.#open.delete(group);
    this.#watches.get(group)?.end();
    this.#watches.delete(group);
    if (open.alive === 0) return;
    this.#options.abandon(group);
  }
}

/** Lets a row have the very array of ids that another one has, where they are the same ids. */
function sharePrompt({ promptIds }: RolloutRow, row: RolloutRow): void {
  const own = row.promptIds;
  if (promptIds === null || own === null || promptIds.length !== own.length) return;
  if (own.every((id, at) => id === promptIds[at])) {
    (row as { promptIds: RolloutRow["promptIds"] }).promptIds = promptIds;
  }
}
