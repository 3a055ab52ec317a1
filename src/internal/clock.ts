/** Time as the code sees it, so that a test can drive it. */
export interface Clock {
  /** Milliseconds that only grow. */
  now(): number;
  /** Calls `callback` after `delayMs`; the result cancels it. */
  schedule(delayMs: number, callback: () => void): () => void;
}

/** What a timer of the system can wait; it fires at once for more. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Waits from here on share timers. Nearly all are deadlines, which are cancelled long before. */
const SHARED_FROM_MS = 5_000;
/** What such a wait may last longer. */
const SHARED_STEP_MS = 250;

/** Who waits for the same moment, in a ring of which the timer is the first. */
interface Wait {
  callback: (() => void) | null;
  before: Wait | null;
  after: Wait | null;
}

interface SharedTimer<Timer> {
  readonly timer: Timer;
  readonly ring: Wait;
}

/** The timers of the system. */
interface Timers<Timer> {
  now(): number;
  set(callback: () => void, delayMs: number): Timer;
  clear(timer: Timer): void;
}

/**
 * Real time on the timers of the system. A wait of 5 seconds or more may last up to 250 ms longer: of
 * deadlines there are some for each turn, and the table of the system's timers holds what was
 * cancelled, with all that its callbacks hold, until the garbage of a whole run is collected. So would
 * a `Set` of ours.
 */
export class TimerClock<Timer> implements Clock {
  readonly #timers: Timers<Timer>;
  readonly #shared = new Map<number, SharedTimer<Timer>>();

  constructor(timers: Timers<Timer>) {
    this.#timers = timers;
  }

  now(): number {
    return this.#timers.now();
  }

  schedule(delayMs: number, callback: () => void): () => void {
    if (delayMs === Infinity) return () => {};
    if (delayMs >= SHARED_FROM_MS) return this.#scheduleShared(delayMs, callback);
    const timer = this.#timers.set(callback, delayMs);
    return () => this.#timers.clear(timer);
  }

  #scheduleShared(delayMs: number, callback: () => void): () => void {
    const due = Math.ceil((this.now() + delayMs) / SHARED_STEP_MS);
    const shared = this.#sharedAt(due);
    const { ring } = shared;
    const wait: Wait = { callback, before: ring.before, after: ring };
    ring.before!.after = wait;
    ring.before = wait;
    return () => {
      if (wait.callback === null) return;
      takeOut(wait);
      if (ring.after !== ring || this.#shared.get(due) !== shared) return;
      this.#timers.clear(shared.timer);
      this.#shared.delete(due);
    };
  }

  #sharedAt(due: number): SharedTimer<Timer> {
    const known = this.#shared.get(due);
    if (known !== undefined) return known;
    const left = Math.min(due * SHARED_STEP_MS - this.now(), LONGEST_TIMER_MS);
    const ring: Wait = { callback: null, before: null, after: null };
    ring.before = ring.after = ring;
    const shared = { timer: this.#timers.set(() => this.#fire(due), left), ring };
    this.#shared.set(due, shared);
    return shared;
  }

  #fire(due: number): void {
    const { ring } = this.#shared.get(due)!;
    this.#shared.delete(due);
    while (ring.after !== ring) {
      const { callback } = ring.after!;
      takeOut(ring.after!);
      try {
        callback!();
      } catch (error) {
        // As an error in a timer of its own would be.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

/** What was taken out points to nobody, so that it keeps nobody in memory. */
function takeOut(wait: Wait): void {
  wait.before!.after = wait.after;
  wait.after!.before = wait.before;
  wait.callback = wait.before = wait.after = null;
}

/** The real time. */
export const systemClock: Clock = new TimerClock<ReturnType<typeof setTimeout>>({
  now: () => performance.now(),
  set: (callback, delayMs) => setTimeout(callback, delayMs),
  clear: (timer) => clearTimeout(timer),
});
