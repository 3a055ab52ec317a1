import type { Clock } from "../internal/clock.ts";
import type { Monitor, ServerLook } from "../telemetry/mod.ts";
import { ServerWatch } from "../telemetry/server_look.ts";

/** Readers of one page that are kept at most. */
const MOST_READERS = 100;
/** How long a state waits for what the servers tell; one that is slower is in a later state. */
const FRESH_MS = 250;
const encoder = new TextEncoder();

/** Sends the state of a run to all who look, once a second; while nobody looks it does nothing. */
export class LiveFeed implements Disposable {
  readonly #monitor: Monitor;
  readonly #clock: Clock;
  /** A state is told this often. */
  readonly everyMs: number;
  readonly #onError: ((error: unknown) => void) | undefined;
  readonly #readers = new Set<ReadableStreamDefaultController<Uint8Array>>();
  readonly #servers: ServerWatch;
  #cancel: (() => void) | undefined;
  #isAsking = false;
  #isClosed = false;

  constructor(
    monitor: Monitor,
    options: {
      readonly clock: Clock;
      readonly everyMs: number;
      readonly onError?: ((error: unknown) => void) | undefined;
    },
  ) {
    this.#monitor = monitor;
    this.#servers = new ServerWatch(monitor.watched.engine);
    this.#clock = options.clock;
    this.everyMs = options.everyMs;
    this.#onError = options.onError;
  }

  /** Who looks now. */
  get readers(): number {
    return this.#readers.size;
  }

  /** The state as server-sent events, from now on; `null` when too many look already. */
  open(): ReadableStream<Uint8Array> | null {
    if (this.#isClosed || this.#readers.size >= MOST_READERS) return null;
    let own: ReadableStreamDefaultController<Uint8Array>;
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        own = controller;
        this.#readers.add(controller);
        controller.enqueue(encoder.encode("retry: 1000\n\n"));
        void this.#send();
      },
      cancel: () => this.#leave(own),
    });
  }

  /** What the page shows of the run. */
  async state(): Promise<unknown> {
    await this.#askServers();
    return this.#stateWith(this.#servers.looks);
  }

  #stateWith(servers: readonly ServerLook[]): unknown {
    const monitor = this.#monitor;
    const { collector, engine, sender } = monitor.watched;
    return {
      at: Date.now(),
      has: {
        engine: engine !== undefined,
        collector: collector !== undefined,
        sender: sender !== undefined,
      },
      servers,
      requests: engine?.requests ?? null,
      rollouts: collector === undefined ? null : {
        ...collector.stats,
        running: collector.running,
        waiting: collector.waiting,
        policyVersion: collector.policyVersion,
      },
      sync: monitor.sync,
      // JSON has no NaN: what diverged is told by its name, not as unknown.
      recorded: Object.fromEntries(
        [...monitor.recorded].map(([name, value]) => [
          name,
          Number.isFinite(value) ? value : String(value),
        ]),
      ),
      curves: thinned(monitor.curves()),
      events: monitor.events.slice(-200),
    };
  }

  /** Ends every stream. */
  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#cancel?.();
    this.#servers[Symbol.dispose]();
    for (const reader of this.#readers) {
      try {
        reader.close();
      } catch { /* It has left. */ }
    }
    this.#readers.clear();
  }

  async #send(): Promise<void> {
    if (this.#isAsking || this.#isClosed) return;
    this.#isAsking = true;
    this.#cancel?.();
    const startedAt = this.#clock.now();
    try {
      await this.#askServers();
      const state = this.#stateWith(this.#servers.looks);
      const bytes = encoder.encode(`data: ${JSON.stringify(state)}\n\n`);
      for (const reader of [...this.#readers]) {
        // Who does not read gets the next state instead: none is queued twice.
        if ((reader.desiredSize ?? 0) <= 0) continue;
        try {
          reader.enqueue(bytes);
        } catch {
          this.#leave(reader);
        }
      }
    } catch (error) {
      // The next state may be told again.
      this.#onError?.(error);
    } finally {
      this.#isAsking = false;
      if (this.#readers.size > 0 && !this.#isClosed) {
        const waited = this.#clock.now() - startedAt;
        const pauseMs = Math.max(0, this.everyMs - waited);
        this.#cancel = this.#clock.schedule(pauseMs, () => void this.#send());
      }
    }
  }

  /** Asks the servers, and waits for those that answer soon. */
  async #askServers(): Promise<void> {
    const late = Promise.withResolvers<void>();
    const cancel = this.#clock.schedule(Math.min(FRESH_MS, this.everyMs / 2), late.resolve);
    await Promise.race([this.#servers.ask(), late.promise]);
    cancel();
  }

  #leave(reader: ReadableStreamDefaultController<Uint8Array>): void {
    this.#readers.delete(reader);
    if (this.#readers.size === 0) this.#cancel?.();
  }
}

/** Curves for a screen: at most 300 points each. */
function thinned(curves: ReturnType<Monitor["curves"]>): ReturnType<Monitor["curves"]> {
  return Object.fromEntries(
    Object.entries(curves).map(([name, points]) => {
      const every = Math.ceil(points.length / 300);
      return [name, points.filter((_point, i) => (points.length - 1 - i) % every === 0)];
    }),
  );
}
