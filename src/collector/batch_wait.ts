import type { OptionNames } from "../internal/option_names.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import type { RolloutBatch } from "./batch.ts";
import type { BatchQueue } from "./batch_queue.ts";
import type { Scheduler } from "./scheduler.ts";

/** Options of a single wait for a batch. */
export interface RolloutOptions {
  /** Ends the wait; rows collected so far stay for the next call. */
  readonly signal?: AbortSignal | undefined;
  /** Deadline in milliseconds. Default 3 600 000; rows stay for the next call. */
  readonly timeoutMs?: number | undefined;
  /**
   * Told when it begins to wait and whenever something changed: the elements that are collected, those
   * of a batch, and the dialogs that run.
   */
  readonly onProgress?:
    | ((progress: { collected: number; wanted: number; running: number }) => void)
    | undefined;
}

/** The names of all of them. */
export const ROLLOUT_OPTION_NAMES = {
  signal: true,
  timeoutMs: true,
  onProgress: true,
} as const satisfies OptionNames<RolloutOptions>;

/** Wakes everybody who waits for the next change. */
export class ChangeSignal {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next change. */
  get next(): Promise<void> {
    return this.#next.promise;
  }

  /** Wakes those who wait now. */
  announce(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }
}

/** What a wait looks at. */
export interface BatchWait {
  readonly queue: BatchQueue;
  readonly scheduler: Scheduler;
  readonly changes: ChangeSignal;
  /** Elements in a batch. */
  readonly perBatch: number;
  /** Fires when the collector stops. */
  readonly stopping: AbortSignal;
  readonly clock: Clock | undefined;
}

/** Waits until a batch is whole, or the last one has what is left; `null` at the end. */
export async function waitForBatch(
  { queue, scheduler, changes, perBatch, stopping, clock }: BatchWait,
  { signal, timeoutMs = 3_600_000, onProgress }: RolloutOptions,
): Promise<RolloutBatch | null> {
  return await withDeadline({
    phase: "collect batch",
    timeoutMs,
    signal: signal === undefined ? stopping : AbortSignal.any([signal, stopping]),
    clock,
    lastHeard: () => `${queue.waiting} elements collected, ${scheduler.running} dialogs running`,
  }, async (waitSignal) => {
    while (!waitSignal.aborted) {
      const changed = changes.next;
      scheduler.update();
      const { waiting: collected } = queue;
      onProgress?.({ collected, wanted: perBatch, running: scheduler.running });
      const batch = queue.take(false) ?? takeLast(queue, scheduler);
      if (batch !== null || queue.isClosed) return batch;
      // Taking may have sent stale dialogs back to be run again, for which nobody else rings.
      scheduler.update();
      await changed;
    }
    return null;
  });
}

/** The rest when no dialog can follow; closes the queue when nothing is left. */
function takeLast(queue: BatchQueue, scheduler: Scheduler): RolloutBatch | null {
  // Stalled: places in step wait for others, which have no dialogs left to catch up with.
  if (!scheduler.isExhausted && !scheduler.isStalled) return null;
  const last = queue.take(true);
  // Taking may have sent stale dialogs back to be run again.
  if (last !== null || !scheduler.isExhausted) return last;
  queue.close();
  return queue.takeFailures();
}
