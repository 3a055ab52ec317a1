import { NeedsDenoError, UnreachableError } from "../../errors.ts";
import { connectTcp } from "../../runtime/connect_tcp.ts";
import { sleep, withDeadline } from "../../internal/deadline.ts";
import { TCPStoreServer } from "../../rendezvous/server.ts";

/** SGLang derives a gRPC port from a port by adding 10000, so ports stay below this. */
const HIGHEST_PORT = 55_535;
const CONNECT_TIMEOUT_MS = 5000;

/**
 * The address of this machine that the servers reach: the one from which a connection to the first
 * server goes out.
 */
export async function chooseMasterAddress(
  servers: readonly { readonly url: string }[],
  signal: AbortSignal | undefined,
): Promise<string> {
  const addresses = new Set<string>();
  for (const { url } of servers) {
    const { hostname, port, protocol } = new URL(url);
    const target = {
      hostname: hostname.replace(/^\[|\]$/g, ""),
      port: Number(port) || (protocol === "https:" ? 443 : 80),
    };
    const wait = { phase: "find master address", timeoutMs: CONNECT_TIMEOUT_MS, peer: url, signal };
    try {
      using connection = await withDeadline(
        wait,
        (inner) => connectTcp({ ...target, signal: inner }),
      );
      addresses.add((connection.localAddr as Deno.NetAddr).hostname);
    } catch (cause) {
      if (cause instanceof NeedsDenoError) throw cause;
      throw new UnreachableError(`Nobody answers at ${url}`, { cause, url });
    }
  }
  // A server elsewhere cannot reach a loopback address, but a local one reaches an outer address.
  const outer = [...addresses].find((address) => address !== "127.0.0.1" && address !== "::1");
  return outer ?? [...addresses][0] ?? "127.0.0.1";
}

/** A port that is free on `hostname`, from 1024 to 55535. */
export function chooseMasterPort(hostname: string): number {
  for (;;) {
    using listener = Deno.listen({ hostname, port: 0 });
    const { port } = listener.addr;
    if (port <= HIGHEST_PORT) return port;
  }
}

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
