/** A dialog that waits to be run. */
export interface Task {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try it will be. */
  readonly attempt: number;
  /** The group that it belongs to; without groups, the number of the dialog. */
  readonly group: number;
  /** Which member of the group it is, from 0. */
  readonly member: number;
}

/** Options of {@linkcode TaskQueue}. */
export interface TaskQueueOptions {
  /** How many groups there are; without groups, dialogs. `Infinity` for no end. */
  readonly groups: number;
  /** Dialogs that each group begins. Default 1. */
  readonly membersPerGroup?: number | undefined;
}

/** Tells which groups are over already. */
export type IsSettled = (group: number) => boolean;

/** Hands out dialogs: those to be tried again first, then new numbers, group by group. */
export class TaskQueue {
  readonly #total: number;
  readonly #perGroup: number;
  #again: Task[] = [];
  #next = 0;
  #isSettled: IsSettled = () => false;

  /** Makes a queue. */
  constructor({ groups, membersPerGroup = 1 }: TaskQueueOptions) {
    this.#total = groups * membersPerGroup;
    this.#perGroup = membersPerGroup;
  }

  /** Goes on with a run of which some groups are over; must come before the first task. */
  resume(isSettled: IsSettled): void {
    this.#isSettled = isSettled;
    this.#passSettled();
  }

  /** Whether a dialog waits. */
  get hasTask(): boolean {
    return this.#again.length > 0 || this.#next < this.#total;
  }

  /** Whether the next dialog belongs to a group of which others began already. */
  get isWithinGroup(): boolean {
    return this.#again.length > 0 || this.#next % this.#perGroup !== 0;
  }

  /** Takes the next dialog; `null` when none waits. */
  take(): Task | null {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    if (this.#next >= this.#total) return null;
    const dialog = this.#next++;
    this.#passSettled();
    return { dialog, attempt: 0, ...this.#placeOf(dialog) };
  }

  /** Dialogs that wait to be run once more. */
  get waitingAgain(): number {
    return this.#again.length;
  }

  /** Lets them go; tells how many they were. */
  forgetAgain(): number {
    return this.#again.splice(0).length;
  }

  /** Puts a dialog back to be run once more. */
  again({ dialog, attempt }: Pick<Task, "dialog" | "attempt">): void {
    this.#again.push({ dialog, attempt: attempt + 1, ...this.#placeOf(dialog) });
  }

  /** Takes out what waits of a group; gives how many of these had begun before. */
  dropGroup(group: number): number {
    const before = this.#again.length;
    this.#again = this.#again.filter((task) => task.group !== group);
    const isWithin = Math.floor(this.#next / this.#perGroup) === group;
    if (isWithin) {
      this.#next = (group + 1) * this.#perGroup;
      this.#passSettled();
    }
    return before - this.#again.length;
  }

  /** A group that is over begins no member. */
  #passSettled(): void {
    while (
      this.#next < this.#total && this.#next % this.#perGroup === 0 &&
      this.#isSettled(this.#next / this.#perGroup)
    ) this.#next += this.#perGroup;
  }

  #placeOf(dialog: number): Pick<Task, "group" | "member"> {
    return { group: Math.floor(dialog / this.#perGroup), member: dialog % this.#perGroup };
  }
}
