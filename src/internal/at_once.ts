/**
 * Does `work` for each item, begun in order, at most `limit` at once. When one fails, the others are
 * told by their signal and awaited: nothing is under way any more when this rejects with the first
 * error. The caller's signal is a matter of `work`, which gets it.
 */
export async function forEachAtOnce<Item>(
  items: Iterable<Item>,
  options: { readonly limit: number; readonly signal?: AbortSignal | undefined },
  work: (item: Item, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { limit, signal: outer } = options;
  const failure = new AbortController();
  const signal = outer ? AbortSignal.any([outer, failure.signal]) : failure.signal;
  const queue = Iterator.from(items);
  const lane = async () => {
    try {
      while (!failure.signal.aborted) {
        const next = queue.next();
        if (next.done) return;
        await work(next.value, signal);
      }
    } catch (error) {
      failure.abort(error);
    }
  };
  await Promise.all(Array.from({ length: limit }, lane));
  failure.signal.throwIfAborted();
}
