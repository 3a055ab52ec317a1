import { AbortedError } from "../errors.ts";

/** What a place asks of the {@linkcode Gate}: to begin a dialog or to take one more turn. */
export interface TurnRequest {
  /** Index of the environment. */
  readonly environment: number;
  /** Whether a new dialog would begin. */
  readonly begins: boolean;
}

/**
 * What is said to a request: it passes (and is booked), it waits, or it waits as all others do that
 * want the same, to begin or to go on, so that these need not be asked.
 */
export type GateAnswer = "pass" | "wait" | "all wait";

interface Entry {
  readonly request: TurnRequest;
  /** Its place among all who ever came. */
  readonly number: number;
  pass(): void;
  refuse(error: Error): void;
}

/**
 * Holds places back while their work is not wanted. Whoever changes what is wanted calls
 * {@linkcode Gate.update}; those who wait are then asked again, first come first served, as long as
 * the answer may differ from one to the next.
 */
export class Gate {
  readonly #ask: (request: TurnRequest) => GateAnswer;
  #closed: AbortedError | null = null;
  #came = 0;
  /** In order of arrival, those who would begin and those who would go on apart. */
  readonly #beginning = new Set<Entry>();
  readonly #goingOn = new Set<Entry>();

  /** Makes a gate; `ask` also books the request that it lets pass. */
  constructor(ask: (request: TurnRequest) => GateAnswer) {
    this.#ask = ask;
  }

  /** How many wait. */
  get waiting(): number {
    return this.#beginning.size + this.#goingOn.size;
  }

  /** How many wait to take a further turn of a dialog. */
  get waitingTurns(): number {
    return this.#goingOn.size;
  }

  /** Waits until the request is wanted; rejects when the gate closes or the signal fires. */
  pass(request: TurnRequest, signal?: AbortSignal): Promise<void> {
    if (this.#closed !== null) return Promise.reject(this.#closed);
    if (signal?.aborted) return Promise.reject(new AbortedError("gate", { cause: signal.reason }));
    if (this.waiting === 0 && this.#ask(request) === "pass") return Promise.resolve();
    const line = request.begins ? this.#beginning : this.#goingOn;
    return new Promise((resolve, reject) => {
      const leave = () => signal?.removeEventListener("abort", onAbort);
      const entry: Entry = {
        request,
        number: this.#came++,
        pass: () => {
          leave();
          resolve();
        },
        refuse: (error) => {
          leave();
          reject(error);
        },
      };
      const onAbort = () => {
        line.delete(entry);
        reject(new AbortedError("gate", { cause: signal?.reason }));
      };
      signal?.addEventListener("abort", onAbort, { once: true });
      line.add(entry);
      this.update();
    });
  }

  /** Turns away all who wait and all who come later. */
  close(reason: unknown): void {
    this.#closed = new AbortedError("gate", { cause: reason });
    for (const line of [this.#beginning, this.#goingOn]) {
      for (const entry of line) entry.refuse(this.#closed);
      line.clear();
    }
  }

  /** Asks again for those who wait. Costs what passes, not what waits, where all wait alike. */
  update(): void {
    const lines = [this.#beginning, this.#goingOn].map((line) => {
      const entries = line.values();
      return { line, entries, next: entries.next() };
    });
    const [beginning, goingOn] = lines as [typeof lines[number], typeof lines[number]];
    const numberOf = ({ next }: typeof beginning) => next.done ? Infinity : next.value.number;
    for (;;) {
      const first = numberOf(beginning) < numberOf(goingOn) ? beginning : goingOn;
      if (first.next.done) return;
      const entry = first.next.value;
      const answer = this.#ask(entry.request);
      if (answer === "pass") {
        first.line.delete(entry);
        entry.pass();
      }
      first.next = answer === "all wait" ? { done: true, value: undefined } : first.entries.next();
    }
  }
}
