/** A signal that fires with the first of several. */
export interface EitherSignal extends Disposable {
  /** The signal. */
  readonly signal: AbortSignal;
}

/** Joins signals until disposed, by listeners that are taken off again. */
export function eitherSignal(...sources: readonly AbortSignal[]): EitherSignal {
  const joined = new AbortController();
  const stops = sources.map((source) => {
    const fire = () => joined.abort(source.reason);
    if (source.aborted) fire();
    else source.addEventListener("abort", fire, { once: true });
    return () => source.removeEventListener("abort", fire);
  });
  return {
    signal: joined.signal,
    [Symbol.dispose]() {
      for (const stop of stops) stop();
    },
  };
}
