import type { RolloutBatch } from "./batch.ts";
import type { LLMCollectorOptions } from "./options.ts";
import type { CollectorState } from "./state.ts";

/**
 * The batch that has left the queue and is not yet with who gets it. Until it has arrived the
 * collector stands where it stood before it, so that a state written down now loses nothing.
 */
export class OutgoingBatch {
  /** What is applied to every batch. */
  postproc: LLMCollectorOptions["postproc"];
  /** Where the collector stood before the batch; `null` when none is on its way. */
  before: CollectorState | null = null;
  readonly #ending: AbortSignal;
  #held: RolloutBatch | null = null;

  constructor(postproc: LLMCollectorOptions["postproc"], ending: AbortSignal) {
    this.postproc = postproc;
    this.#ending = ending;
  }

  /** A batch whose `postproc` failed: the next call tries it again. */
  get held(): RolloutBatch | null {
    return this.#held;
  }

  /** Applies `postproc`; keeps the batch when that fails. */
  async process(batch: RolloutBatch, signal: AbortSignal | undefined): Promise<RolloutBatch> {
    if (this.postproc === undefined) return batch;
    this.#held = batch;
    const ending = this.#ending;
    const processed = await this.postproc(batch, {
      signal: signal === undefined ? ending : AbortSignal.any([signal, ending]),
    });
    this.#held = null;
    return processed;
  }

  /** Gives that batch to somebody else, as it was before `postproc`. */
  takeHeld(): RolloutBatch | null {
    const batch = this.#held;
    this.#held = null;
    return batch;
  }

  /** Who gets the batch has it. */
  arrived(): void {
    this.before = null;
  }
}
