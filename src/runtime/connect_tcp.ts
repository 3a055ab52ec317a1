import type { NetAddress } from "./types.ts";

/** How long a connection that nobody wants any more may take until the system gives it up. */
const GIVE_UP_MS = 250;
/**
 * In so many steps: on a machine with much else to do, the timer and the connection are often due in
 * the same turn of the event loop, and a connection that is there must be seen first.
 */
const STEPS = 10;

/**
 * Connects, and leaves nothing open when `signal` fires at any moment. Deno's own signal does not do
 * that: where it fires when the connection was just made, `Deno.connect` rejects and nobody can close
 * the connection. So what was asked for is waited for, and closed; Deno's signal is left for a peer
 * that does not answer.
 *
 * Rejects with the signal's reason, a quarter of a second after it at most, where this process runs.
 */
export async function connectTcp(
  { hostname, port, signal }: NetAddress & { readonly signal: AbortSignal },
): Promise<Deno.TcpConn> {
  signal.throwIfAborted();
  const giveUp = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const step = (left: number) => {
    if (left === 0) return giveUp.abort(signal.reason);
    // deno-lint-ignore sglang-rl/clock-in-src -- the runtime lies below the clock
    timer = setTimeout(() => step(left - 1), GIVE_UP_MS / STEPS);
  };
  const onAbort = () => step(STEPS);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const socket = await Deno.connect({ hostname, port, signal: giveUp.signal });
    if (!signal.aborted) return socket;
    socket.close();
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
  throw signal.reason;
}
