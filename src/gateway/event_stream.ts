import type { Clock } from "../internal/clock.ts";

/** How a stream treats who reads it. */
export interface EventStreamOptions {
  /** How long the client may read nothing while there is something to read. */
  readonly slowReadMs: number;
  readonly clock: Clock;
  /** Called when the client went away, or reads too slowly. */
  readonly onLeave: (reason: string) => void;
}

/**
 * Server-sent events. What is written is kept until it is read, so that nobody who reads slowly holds
 * an answer back; it is at most one answer long, and who reads nothing at all is left.
 */
export class EventStream {
  /** What the response has as its body. */
  readonly body: ReadableStream<Uint8Array>;
  readonly #options: EventStreamOptions;
  readonly #encoder = new TextEncoder();
  #waiting: string[] = [];
  #wake: (() => void) | undefined;
  #isClosed = false;
  #isOver = false;
  #pulls = 0;
  #cancelWatch: (() => void) | undefined;

  constructor(options: EventStreamOptions) {
    this.#options = options;
    this.body = new ReadableStream<Uint8Array>({
      pull: async (controller) => {
        this.#pulls++;
        if (this.#waiting.length === 0 && !this.#isClosed && !this.#isOver) {
          this.#unwatch();
          await new Promise<void>((resolve) => this.#wake = resolve);
        }
        const text = this.#waiting.join("");
        this.#waiting = [];
        if (this.#isOver) {
          controller.error(new Error("The client reads too slowly"));
          return;
        }
        if (text !== "") controller.enqueue(this.#encoder.encode(text));
        if (this.#isClosed) {
          this.#unwatch();
          controller.close();
        }
      },
      cancel: () => this.#leave("the client went away"),
    }, { highWaterMark: 0 });
  }

  /** Writes an event; `name` for those APIs that name their events. */
  write(data: unknown, name?: string): void {
    if (this.#isOver || this.#isClosed) return;
    const line = `data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`;
    this.#waiting.push(name === undefined ? line : `event: ${name}\n${line}`);
    this.#watch();
    this.#wake?.();
  }

  /** Ends it, when all has been read. */
  close(): void {
    this.#isClosed = true;
    this.#wake?.();
  }

  #watch(): void {
    if (this.#cancelWatch !== undefined) return;
    const { clock, slowReadMs } = this.#options;
    const before = this.#pulls;
    this.#cancelWatch = clock.schedule(slowReadMs, () => {
      this.#cancelWatch = undefined;
      if (this.#pulls === before) this.#leave("the client reads too slowly");
      else if (this.#waiting.length > 0) this.#watch();
    });
  }

  #unwatch(): void {
    this.#cancelWatch?.();
    this.#cancelWatch = undefined;
  }

  #leave(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#waiting = [];
    this.#unwatch();
    this.#wake?.();
    this.#options.onLeave(reason);
  }
}
