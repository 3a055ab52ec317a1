/**
 * The lock between generation and weight updates, as in the real server: an update of a server
 * that is not paused waits for the requests in work and holds new ones back.
 */
export class WeightLock {
  #readers = 0;
  #writing = false;
  readonly #waitingWriters: (() => void)[] = [];
  #waitingReaders: (() => void)[] = [];

  /** Enters as one of many. */
  async enterReader(): Promise<Disposable> {
    while (this.#writing || this.#waitingWriters.length > 0) {
      await new Promise<void>((resolve) => this.#waitingReaders.push(resolve));
    }
    this.#readers++;
    return once(() => {
      this.#readers--;
      this.#next();
    });
  }

  /** Enters alone. */
  async enterWriter(): Promise<Disposable> {
    if (this.#writing || this.#readers > 0 || this.#waitingWriters.length > 0) {
      await new Promise<void>((resolve) => this.#waitingWriters.push(resolve));
    }
    this.#writing = true;
    return once(() => {
      this.#writing = false;
      this.#next();
    });
  }

  #next(): void {
    if (this.#writing || this.#readers > 0) return;
    const writer = this.#waitingWriters.shift();
    if (writer !== undefined) {
      // Taken over before anybody else can run.
      this.#writing = true;
      writer();
      return;
    }
    const readers = this.#waitingReaders;
    this.#waitingReaders = [];
    for (const wake of readers) wake();
  }
}

function once(leave: () => void): Disposable {
  let left = false;
  return {
    [Symbol.dispose]() {
      if (left) return;
      left = true;
      leave();
    },
  };
}
