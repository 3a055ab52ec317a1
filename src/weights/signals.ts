const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/**
 * Ends a resource before SIGINT or SIGTERM ends this process: the first of them closes it and is
 * then sent again with its usual effect; a second one while it closes takes effect at once.
 * Disposing the result takes the handlers away.
 */
export function closeOnSignals(close: () => Promise<void>): Disposable {
  const removers: (() => void)[] = [];
  const remove = () => removers.splice(0).forEach((one) => one());
  for (const signal of SIGNALS) {
    const onSignal = () => {
      remove();
      const repeat = () => Deno.kill(Deno.pid, signal);
      close().then(repeat, repeat);
    };
    Deno.addSignalListener(signal, onSignal);
    removers.push(() => Deno.removeSignalListener(signal, onSignal));
  }
  return { [Symbol.dispose]: remove };
}
