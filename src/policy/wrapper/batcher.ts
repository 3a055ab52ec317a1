import { AbortedError } from "../../errors.ts";
import { type Clock, systemClock } from "../../internal/clock.ts";
import { throwIfAborted } from "../../internal/deadline.ts";

/** How callers are gathered. */
export interface BatcherOptions<Item, Result> {
  /** Rows from which on a batch is run at once. */
  readonly minRows: number;
  /** Most rows of a batch; a single caller with more runs alone. `Infinity` for no limit. */
  readonly maxRows: number;
  /** Longest wait of a caller for others. */
  readonly timeoutMs: number;
  /** Rows of a caller. */
  readonly rowsOf: (item: Item) => number;
  /** Serves a batch; one result for each item, in order. */
  readonly run: (items: readonly Item[], signal: AbortSignal) => Promise<readonly Result[]>;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/** State of the queue in which callers are gathered. */
export type BatchingState =
  | {
    /** Callers are not gathered. */
    readonly batchingEnabled: false;
  }
  | {
    /** Callers are gathered. */
    readonly batchingEnabled: true;
    /** Rows from which on a batch runs at once. */
    readonly minBatchSize: number;
    /** Most rows of a batch. */
    readonly maxBatchSize: number;
    /** Callers that wait for others. */
    readonly queueSize: number;
    /** Callers that have no result yet. */
    readonly pendingFutures: number;
    /** Whether a batch is running. */
    readonly lockState: boolean;
  };

interface Caller<Item, Result> {
  readonly item: Item;
  readonly deadline: number;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
  isDone: boolean;
}

interface RunningBatch<Item, Result> {
  readonly callers: readonly Caller<Item, Result>[];
  readonly controller: AbortController;
  readonly done: Promise<void>;
}

/**
 * Gathers concurrent callers into batches. A caller waits no longer than the timeout; a batch that
 * fails rejects its own callers and leaves nothing behind; batches run beside each other.
 */
export class Batcher<Item, Result> {
  readonly #options: BatcherOptions<Item, Result>;
  readonly #clock: Clock;
  #queue: Caller<Item, Result>[] = [];
  readonly #running = new Set<RunningBatch<Item, Result>>();
  #cancelTimer = () => {};

  /** Makes an empty queue. */
  constructor(options: BatcherOptions<Item, Result>) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  /** Callers that wait for others. */
  get queueSize(): number {
    return this.#queue.length;
  }

  /** Callers that have no result yet. */
  get pending(): number {
    return this.#queue.length + [...this.#running].flatMap(({ callers }) => callers)
      .filter(({ isDone }) => !isDone).length;
  }

  /** Whether a batch is running. */
  get isRunning(): boolean {
    return this.#running.size > 0;
  }

  /** It as whoever asks is told. */
  get state(): BatchingState {
    return {
      batchingEnabled: true,
      minBatchSize: this.#options.minRows,
      maxBatchSize: this.#options.maxRows,
      queueSize: this.queueSize,
      pendingFutures: this.pending,
      lockState: this.isRunning,
    };
  }

  /** Adds a caller; resolves with its own result. */
  async submit(item: Item, signal?: AbortSignal): Promise<Result> {
    throwIfAborted(signal, "batching");
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    const deadline = this.#clock.now() + this.#options.timeoutMs;
    const caller = { item, deadline, resolve, reject, isDone: false };
    const onAbort = () => this.#drop(caller, signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#queue.push(caller);
    this.#runFull();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Rejects everybody who waits, and aborts what runs. */
  cancel(): void {
    const callers = [...this.#queue, ...[...this.#running].flatMap(({ callers }) => callers)];
    for (const caller of callers) this.#drop(caller, new Error("The queue was cleaned up"));
    this.#schedule();
  }

  /** Serves everybody who waits, now. Resolves when all have their result or error. */
  async flush(): Promise<void> {
    while (this.#queue.length > 0) this.#runNext();
    this.#schedule();
    await Promise.all([...this.#running].map(({ done }) => done));
  }

  #drop(caller: Caller<Item, Result>, reason: unknown): void {
    if (caller.isDone) return;
    caller.isDone = true;
    caller.reject(new AbortedError("batching", { cause: reason }));
    this.#queue = this.#queue.filter((other) => other !== caller);
    for (const { callers, controller } of this.#running) {
      if (callers.every(({ isDone }) => isDone)) controller.abort(reason);
    }
    this.#schedule();
  }

  #runFull(): void {
    const { rowsOf, minRows } = this.#options;
    const rows = () => this.#queue.reduce((sum, { item }) => sum + rowsOf(item), 0);
    while (this.#queue.length > 0 && rows() >= minRows) this.#runNext();
    this.#schedule();
  }

  #runDue(): void {
    while (this.#queue[0] !== undefined && this.#queue[0].deadline <= this.#clock.now()) {
      this.#runNext();
    }
    this.#schedule();
  }

  #schedule(): void {
    this.#cancelTimer();
    this.#cancelTimer = () => {};
    const oldest = this.#queue[0];
    if (oldest === undefined) return;
    const delayMs = Math.max(0, oldest.deadline - this.#clock.now());
    this.#cancelTimer = this.#clock.schedule(delayMs, () => this.#runDue());
  }

  #runNext(): void {
    const { rowsOf, maxRows } = this.#options;
    let count = 0;
    let rows = 0;
    for (const { item } of this.#queue) {
      rows += rowsOf(item);
      if (count > 0 && rows > maxRows) break;
      count++;
    }
    const callers = this.#queue.splice(0, count);
    const controller = new AbortController();
    const batch = { callers, controller, done: Promise.resolve() };
    this.#running.add(batch);
    batch.done = this.#serve(callers, controller.signal).finally(() => this.#running.delete(batch));
  }

  async #serve(callers: readonly Caller<Item, Result>[], signal: AbortSignal): Promise<void> {
    try {
      const results = await this.#options.run(callers.map(({ item }) => item), signal);
      for (const [index, caller] of callers.entries()) {
        caller.isDone = true;
        caller.resolve(results[index]!);
      }
    } catch (error) {
      for (const caller of callers) {
        caller.isDone = true;
        caller.reject(error);
      }
    }
  }
}
