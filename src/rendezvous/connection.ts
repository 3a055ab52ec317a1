import { ProtocolError } from "../errors.ts";
import { systemClock } from "../internal/clock.ts";
import type { StoreLimits } from "./limits.ts";
import { StoreSession } from "./session.ts";
import type { KeyTable } from "./table.ts";

/** Bytes read from a socket at once. */
const READ_BYTES = 16 * 1024;

/** Bytes that all connections of a server hold together. */
export interface BufferBudget {
  /** Bytes held now. */
  usedBytes: number;
}

/** Joins a client's socket to its {@linkcode StoreSession}. */
export class StoreConnection {
  readonly #socket: Deno.TcpConn;
  readonly #limits: StoreLimits;
  readonly #budget: BufferBudget;
  readonly #session: StoreSession;
  readonly #outbox: Uint8Array[] = [];
  #writing: Promise<void> | undefined;
  #unsentBytes = 0;
  #chargedBytes = 0;
  #closed = false;

  /** Takes over `socket`. */
  constructor(
    socket: Deno.TcpConn,
    options: { table: KeyTable; limits: StoreLimits; budget: BufferBudget },
  ) {
    this.#socket = socket;
    this.#limits = options.limits;
    this.#budget = options.budget;
    this.#session = new StoreSession(options.table, {
      limits: options.limits,
      reply: (answer) => this.#send(answer),
    });
  }

  /** What the client asked last. */
  get lastOp(): string | undefined {
    return this.#session.lastOp;
  }

  /**
   * Serves the client until it goes or breaks the protocol; resolves to the reason for which it
   * was dropped, if it was. Never rejects.
   */
  async serve(onRequest: () => void): Promise<unknown> {
    const cancelHello = systemClock.schedule(
      this.#limits.helloTimeoutMs,
      () => this.#closeIfSilent(),
    );
    try {
      this.#socket.setNoDelay(true);
      await this.#serve(onRequest);
      return undefined;
    } catch (error) {
      return this.#closed ? undefined : error;
    } finally {
      cancelHello();
      this.close();
    }
  }

  async #serve(onRequest: () => void): Promise<void> {
    const buffer = new Uint8Array(READ_BYTES);
    for (;;) {
      const length = await this.#socket.read(buffer);
      if (length === null) return;
      this.#session.push(buffer.subarray(0, length));
      this.#charge();
      while (this.#session.step()) {
        onRequest();
        this.#charge();
        // The next request is looked at only when this one's answer has left, so that a client
        // that asks without reading costs one answer.
        await this.#writing;
      }
    }
  }

  /** Drops the client. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#session.close();
    this.#budget.usedBytes -= this.#chargedBytes;
    this.#chargedBytes = 0;
    this.#socket.close();
  }

  #closeIfSilent(): void {
    if (!this.#session.validated) this.close();
  }

  #charge(): void {
    const held = this.#session.heldBytes + this.#unsentBytes;
    this.#budget.usedBytes += held - this.#chargedBytes;
    this.#chargedBytes = held;
    if (this.#budget.usedBytes <= this.#limits.maxBufferedBytes) return;
    throw new ProtocolError(
      `TCPStore: clients hold more than ${this.#limits.maxBufferedBytes} bytes under way`,
    );
  }

  #send(answer: Uint8Array): void {
    if (this.#closed) return;
    this.#outbox.push(answer);
    this.#unsentBytes += answer.length;
    this.#writing ??= this.#drain();
  }

  async #drain(): Promise<void> {
    try {
      for (let part = this.#outbox.shift(); part !== undefined; part = this.#outbox.shift()) {
        for (let sent = 0; sent < part.length;) {
          sent += await this.#socket.write(part.subarray(sent));
        }
        this.#unsentBytes -= part.length;
      }
    } catch {
      // The client is gone; the read loop ends by this.
      this.close();
    } finally {
      this.#writing = undefined;
    }
  }
}
