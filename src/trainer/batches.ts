import { rolloutFile } from "../collector/export/safetensors.ts";
import type { RolloutBatch } from "../collector/batch.ts";
import { LimitError, StateError } from "../errors.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { orAborted } from "../internal/or_aborted.ts";
import type { TrainerConnection } from "./connection.ts";

/** Batches on their way to whichever trainer asks for the next. */
export class Batches {
  readonly #turn = new Semaphore(1);
  readonly #trainers: ReadonlySet<TrainerConnection>;
  #sent = 0;
  #asked = Promise.withResolvers<void>();
  #end: Error | undefined;

  readonly #maxBytes: number;

  /** Sends to one of `trainers`, batches of at most `maxBytes`. */
  constructor(trainers: ReadonlySet<TrainerConnection>, maxBytes: number) {
    this.#trainers = trainers;
    this.#maxBytes = maxBytes;
  }

  /** A trainer can take a batch. */
  wake(): void {
    this.#asked.resolve();
    this.#asked = Promise.withResolvers();
  }

  /** Sends no more; whoever waits hears why. */
  close(reason: Error): void {
    this.#end ??= reason;
    this.wake();
  }

  /**
   * Sends a batch; resolves when a trainer has it. A trainer that goes away before has it again, or
   * the next one: the batch keeps its number, by which a trainer knows what it has taken.
   */
  async send(batch: RolloutBatch, signal: AbortSignal): Promise<void> {
    const file = rolloutFile(batch);
    const max = this.#maxBytes;
    if (file.byteLength > max) {
      throw new LimitError(
        `The batch takes ${file.byteLength} bytes, more than maxBatchBytes, ${max}`,
        { limit: "maxBatchBytes", max },
      );
    }
    using _turn = await this.#turn.acquire(signal);
    const number = ++this.#sent;
    for (;;) {
      const trainer = await this.#taker(signal);
      try {
        return await orAborted(trainer.sendBatch(number, file), signal);
      } catch (error) {
        // Half a batch cannot be taken back.
        if (signal.aborted) trainer.close(new StateError("The batch was cancelled"));
        if (signal.aborted || !trainer.ended.aborted) throw error;
      }
    }
  }

  async #taker(signal: AbortSignal): Promise<TrainerConnection> {
    for (;;) {
      signal.throwIfAborted();
      if (this.#end !== undefined) throw this.#end;
      const ready = [...this.#trainers].find(({ canTake }) => canTake);
      if (ready !== undefined) return ready;
      await orAborted(this.#asked.promise, signal);
    }
  }
}
