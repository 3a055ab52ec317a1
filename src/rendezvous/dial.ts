import { SGLangError, UnreachableError } from "../errors.ts";
import { connectTcp } from "../runtime/connect_tcp.ts";
import { sleep } from "../internal/deadline.ts";
import { namingPermission } from "../internal/permission.ts";
import { messageOf } from "../internal/thrown.ts";

const RETRY_MS = 50;

/** Connects, again and again until `signal` fires, as long as nobody listens. */
export async function dial(
  address: { hostname: string; port: number },
  signal: AbortSignal,
  onFailure: (text: string) => void,
): Promise<Deno.TcpConn> {
  const where = `${address.hostname}:${address.port}`;
  for (;;) {
    try {
      const socket = await namingPermission(
        `--allow-net=${where}`,
        `connect to the TCPStore at ${where}`,
        () => connectTcp({ ...address, signal }),
      );
      socket.setNoDelay(true);
      return socket;
    } catch (error) {
      if (signal.aborted || error instanceof SGLangError) throw error;
      const text = messageOf(error);
      if (!isWorthRetrying(error)) {
        throw new UnreachableError(`No TCPStore can be reached at ${where}: ${text}`, {
          cause: error,
          url: `tcp://${where}`,
        });
      }
      onFailure(text);
    }
    await sleep(RETRY_MS, { signal });
  }
}

function isWorthRetrying(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionRefused ||
    error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.TimedOut;
}
