import { HttpPool } from "../../src/http/mod.ts";
import { type Clock, systemClock } from "../../src/internal/clock.ts";

/** Lets the event loop turn, so that what is ready (sockets, timers, messages) runs. */
export async function turns(count = 1): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setTimeout(resolve, 0));
}

/** Resolves once `condition` holds. It waits for an event, however long that takes: no deadline. */
export async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition(); i++) {
    // The first turns cost nothing; a wait for another process leaves the CPU to it.
    await new Promise((resolve) => setTimeout(resolve, i < 50 ? 0 : 2));
  }
}

/** How a clock of tests treats short waits. */
export interface FakeClockOptions {
  /** Waits of at most this many milliseconds (pauses, polls) pass at once. Default 0: none. */
  readonly skipUpToMs?: number;
}

/** A clock that moves only when told. */
export class FakeClock implements Clock {
  #now = 0;
  #timers = new Set<{ at: number; callback: () => void }>();
  readonly #skipUpToMs: number;

  constructor(options: FakeClockOptions = {}) {
    this.#skipUpToMs = options.skipUpToMs ?? 0;
  }

  /**
   * Puts a fake clock in the place of the real one until it is disposed of. Only code of this
   * package follows it; sockets, processes and the test runner keep the real time.
   */
  static install(options: FakeClockOptions = {}): FakeClock & Disposable {
    const clock = new FakeClock(options);
    // Its methods may be of its class: a copy of the object alone would not have them.
    const { now, schedule } = systemClock;
    const real = { now: now.bind(systemClock), schedule: schedule.bind(systemClock) };
    systemClock.now = () => clock.now();
    systemClock.schedule = (delayMs, callback) => clock.schedule(delayMs, callback);
    return Object.assign(clock, { [Symbol.dispose]: () => void Object.assign(systemClock, real) });
  }

  now(): number {
    return this.#now;
  }

  schedule(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + delayMs, callback };
    this.#timers.add(timer);
    const skip = delayMs <= this.#skipUpToMs ? setTimeout(() => this.#skipTo(timer), 0) : undefined;
    return () => {
      this.#timers.delete(timer);
      // A real timer must not outlive a test that ends just now.
      clearTimeout(skip);
    };
  }

  #skipTo(timer: { at: number; callback: () => void }): void {
    if (!this.#timers.delete(timer)) return;
    this.#now = Math.max(this.#now, timer.at);
    timer.callback();
  }

  /** Number of timers that wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves time on, running what is due in order and letting promises settle after each. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const due = [...this.#timers].filter((t) => t.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.callback();
      for (let i = 0; i < 10; i++) await Promise.resolve();
    }
    this.#now = Math.max(this.#now, end);
    for (let i = 0; i < 10; i++) await Promise.resolve();
  }

  /** Moves time on by `ms` once `isStuck` says that nothing else happens, until `work` settles. */
  async pass<T>(work: Promise<T>, options: { ms: number; isStuck: () => boolean }): Promise<T> {
    let isDone = false;
    const done = work.finally(() => isDone = true);
    done.catch(() => {});
    while (!isDone) {
      await until(() => isDone || options.isStuck());
      // What has just been answered is read to its end before time moves on.
      await turns(20);
      if (!isDone && options.isStuck()) await this.advance(options.ms);
      await turns(1);
    }
    return await done;
  }
}

/** Counts the requests of this package whose answer has not begun, until it is disposed of. */
export function openCalls(): Disposable & { readonly count: number } {
  const real = HttpPool.prototype.send;
  let count = 0;
  HttpPool.prototype.send = async function (...args) {
    count++;
    try {
      return await real.apply(this, args);
    } finally {
      count--;
    }
  };
  return {
    get count() {
      return count;
    },
    [Symbol.dispose]() {
      HttpPool.prototype.send = real;
    },
  };
}
