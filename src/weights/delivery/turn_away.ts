/**
 * Accepts connections to a port and closes them until the signal fires.
 *
 * A server that finds nobody at the master address tries again for 30 minutes and does nothing else
 * meanwhile. One that is turned away gives up with an answer, so a group that is given up in its
 * opening leaves somebody at the door.
 */
export async function turnAway(
  address: { readonly hostname: string; readonly port: number },
  signal: AbortSignal,
): Promise<void> {
  let listener: Deno.TcpListener;
  try {
    listener = Deno.listen(address);
  } catch {
    // Somebody else listens there, who may turn the server away as well.
    return;
  }
  const close = () => listener.close();
  if (signal.aborted) return close();
  signal.addEventListener("abort", close, { once: true });
  try {
    for await (const connection of listener) connection.close();
  } catch {
    // The listener was closed.
  }
}
