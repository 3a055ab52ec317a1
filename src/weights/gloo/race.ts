/**
 * Waits for all of `work`, or rejects with the signal's reason. Work that is left over may reject
 * later, when the group ends; nobody hears that.
 */
export async function allOrAborted(
  work: readonly Promise<void>[],
  signal: AbortSignal,
): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    await Promise.race([Promise.all(work), aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
