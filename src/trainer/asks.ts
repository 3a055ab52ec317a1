import { ProtocolError, StateError } from "../errors.ts";
import { orAborted } from "../internal/or_aborted.ts";

/** What a trainer was asked to do, by number, until it answers. */
export class Asks {
  readonly #trainer: string;
  readonly #open = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  #last = 0;
  #end: Error | undefined;

  /** Of a trainer with this name. */
  constructor(trainer: string) {
    this.#trainer = trainer;
  }

  /**
   * Sends a question under a number of its own and waits for the answer.
   *
   * @throws {StateError} The trainer answered that it failed.
   */
  async ask(
    send: (ask: number) => Promise<void>,
    signal: AbortSignal,
  ): Promise<Record<string, unknown>> {
    if (this.#end !== undefined) throw this.#end;
    const ask = ++this.#last;
    const answer = Promise.withResolvers<Record<string, unknown>>();
    answer.promise.catch(() => {});
    this.#open.set(ask, answer);
    try {
      await orAborted(send(ask), signal);
      const message = await orAborted(answer.promise, signal);
      if (message.error === undefined) return message;
      throw new StateError(`trainer ${this.#trainer}: ${String(message.error).slice(0, 2000)}`);
    } finally {
      this.#open.delete(ask);
    }
  }

  /** An answer has come; one that nobody waits for any more is dropped. */
  hear(message: Record<string, unknown>): void {
    const ask = message.ask;
    if (!Number.isInteger(ask) || (ask as number) < 1 || (ask as number) > this.#last) {
      throw new ProtocolError(`trainer ${this.#trainer} answered what nobody had asked`);
    }
    this.#open.get(ask as number)?.resolve(message);
  }

  /** No answers come any more. */
  end(reason: Error): void {
    this.#end ??= reason;
    for (const { reject } of this.#open.values()) reject(reason);
  }
}
