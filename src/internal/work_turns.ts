import { setImmediate } from "node:timers";

/** Most work of one turn of the event loop: characters, of which each takes about a microsecond. */
export const WORK_A_TURN = 8192;

interface Waiting {
  readonly work: number;
  readonly resolve: () => void;
}

/**
 * Shares the event loop between those who have long work to do. Each asks before a slice of its work
 * and says how large it is; in one turn of the loop no more is let through than fits, the rest waits in
 * the order in which it came. So a long text, or many of them, hold nobody back for longer than a slice.
 */
export class WorkTurns {
  readonly #most: number;
  readonly #later: (callback: () => void) => void;
  readonly #waiting: Waiting[] = [];
  /** Of {@linkcode WorkTurns.#waiting}, those that went on. */
  #gone = 0;
  /** Work that was let through in this turn. */
  #work = 0;
  #isScheduled = false;
  #turns = 0;
  #largest = 0;

  /** `later` calls back in the next turn of the loop. */
  constructor(
    { most = WORK_A_TURN, later = setImmediate }: {
      readonly most?: number;
      readonly later?: (callback: () => void) => unknown;
    } = {},
  ) {
    this.#most = most;
    this.#later = later;
  }

  /** Turns of the loop in which work was let through. */
  get turns(): number {
    return this.#turns;
  }

  /** Most work that was let through in one of them. */
  get largest(): number {
    return this.#largest;
  }

  /** Resolves when so much work may be done: at once while this turn of the loop has room for it. */
  turn(work: number): Promise<void> {
    if (this.#gone === this.#waiting.length && this.#fits(work)) {
      this.#take(work);
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#waiting.push({ work, resolve });
      this.#schedule();
    });
  }

  /** What is larger than a turn goes alone. */
  #fits(work: number): boolean {
    return this.#work === 0 || this.#work + work <= this.#most;
  }

  #take(work: number): void {
    if (this.#work === 0) this.#turns++;
    this.#work += work;
    this.#largest = Math.max(this.#largest, this.#work);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#later(() => this.#next());
  }

  #next(): void {
    this.#isScheduled = false;
    this.#work = 0;
    while (this.#gone < this.#waiting.length && this.#fits(this.#waiting[this.#gone]!.work)) {
      const { work, resolve } = this.#waiting[this.#gone++]!;
      this.#take(work);
      resolve();
    }
    if (this.#gone === this.#waiting.length) {
      this.#waiting.length = 0;
      this.#gone = 0;
    } else if (this.#gone > 1024) this.#waiting.splice(0, this.#gone), this.#gone = 0;
  }
}

/** The loop of this process. */
export const workTurns: WorkTurns = new WorkTurns();

/** Work that is done in steps: it gives how much each was, and at its end what came of it. */
export type Steps<T> = Generator<number, T, undefined>;

/** Does all of it at once. */
export function atOnce<T>(steps: Generator<unknown, T, undefined>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}

/** Work of a slice, of which a turn of the loop has room for two. */
const SLICE = WORK_A_TURN / 2;

/** Does so many steps as make up a slice; gives the last of them. */
export function slice<T>(steps: Steps<T>, most = SLICE): IteratorResult<number, T> {
  let done = 0;
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step;
    done += step.value;
    if (done >= most) return { done: false, value: done };
  }
}

/**
 * Does work in slices, and waits for a turn before each of them.
 *
 * @param first How much the first slice is, as far as that is known: most work is short.
 */
export async function inTurns<T>(
  steps: Steps<T>,
  { first = SLICE, signal, turns = workTurns }: {
    readonly first?: number | undefined;
    readonly signal?: AbortSignal | undefined;
    readonly turns?: Pick<WorkTurns, "turn"> | undefined;
  } = {},
): Promise<T> {
  for (let work = Math.min(first, SLICE);; work = SLICE) {
    await turns.turn(work);
    signal?.throwIfAborted();
    const step = slice(steps);
    if (step.done === true) return step.value;
  }
}
