/** A dialog that waits to be run. */
export interface Task {
  /** Number of the dialog. */
  readonly dialog: number;
  /** Which try it will be. */
  readonly attempt: number;
}

/** Hands out dialogs: those to be tried again first, then new numbers. */
export class TaskQueue {
  readonly #total: number;
  readonly #again: Task[] = [];
  #next = 0;

  /** Makes a queue of `total` dialogs; `Infinity` for no end. */
  constructor(total: number) {
    this.#total = total;
  }

  /** Whether a dialog waits. */
  get hasTask(): boolean {
    return this.#again.length > 0 || this.#next < this.#total;
  }

  /** Takes the next dialog; `null` when none waits. */
  take(): Task | null {
    const again = this.#again.shift();
    if (again !== undefined) return again;
    if (this.#next >= this.#total) return null;
    return { dialog: this.#next++, attempt: 0 };
  }

  /** Puts a dialog back to be run once more. */
  again(task: Task): void {
    this.#again.push({ dialog: task.dialog, attempt: task.attempt + 1 });
  }
}
