import { AbortedError } from "../errors.ts";
import { asError } from "../internal/thrown.ts";
import type { BatchSink } from "./options.ts";

/** Drives a collector whose sink takes the batches, and tells the sink of the beginning and the end. */
export async function pump(
  collector: AsyncIterable<unknown>,
  sink: BatchSink<unknown>,
  stopping: AbortSignal,
): Promise<void> {
  sink.begin?.();
  try {
    for await (const _item of collector) { /* The sink has it. */ }
  } catch (error) {
    // A shutdown is an end, not a failure.
    if (stopping.aborted && error instanceof AbortedError) sink.end?.();
    else sink.end?.(asError(error));
    throw error;
  }
  sink.end?.();
}
