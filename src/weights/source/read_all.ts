import { forEachAtOnce } from "../../internal/at_once.ts";
import type { OpenWeightSource } from "./source.ts";

/** A tensor to be read, and the memory that it fills. */
export interface TensorRead {
  /** Its place in the source. */
  readonly index: number;
  /** Memory of exactly its size. */
  readonly target: Uint8Array;
  /** What is read: the source itself, or what it casts from. */
  readonly source: OpenWeightSource;
}

/**
 * Reads tensors forwards, as many at once as the source allows; the plan may have sorted them
 * otherwise. When it rejects, no read is under way any more, so the memory can be used again.
 */
export async function readAll(
  reads: readonly TensorRead[],
  options: { readonly atOnce: number | undefined; readonly signal: AbortSignal },
): Promise<void> {
  const forwards = reads.toSorted((a, b) => a.index - b.index);
  await forEachAtOnce(
    forwards,
    { limit: options.atOnce ?? 1, signal: options.signal },
    async ({ source, index, target }, signal) => {
      signal.throwIfAborted();
      await source.read(index, target, { signal });
    },
  );
}
