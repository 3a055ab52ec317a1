import { sleep } from "../../internal/deadline.ts";
import { TCPStoreServer } from "../../rendezvous/server.ts";

const POLL_MS = 50;

/**
 * Meets servers that still look for the master of a group that was given up, until the signal fires.
 *
 * A server that finds nobody at the master address tries again for 30 minutes and does nothing else
 * meanwhile; so it does when it is hung up on before it could introduce itself. One that came to
 * wait for a key and then loses the connection gives up, with an answer.
 */
export async function turnAway(
  address: { readonly hostname: string; readonly port: number },
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await using store = TCPStoreServer.listen(address);
      while (store.peersSeen.lastOp !== "wait") await sleep(POLL_MS, { signal });
    } catch {
      // Ended by the signal, or somebody else listens there and may turn servers away as well.
      return;
    }
  }
}
