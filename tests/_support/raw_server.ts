/** A server that answers with bytes of a test, whether or not they are HTTP. */

/** Answers one connection; it is closed when this ends. */
export type RawHandler = (connection: Deno.TcpConn, request: string) => Promise<void>;

/** A running raw server. */
export interface RawServer extends AsyncDisposable {
  readonly url: string;
  /** First lines of the requests, one for each that a connection began with. */
  readonly requests: readonly string[];
}

/** Starts one on a free port. The handler gets each connection with the head of its first request. */
export function rawServer(handler: RawHandler): RawServer {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const requests: string[] = [];
  const open = new Set<Deno.TcpConn>();
  const running = new Set<Promise<void>>();
  const serve = async (connection: Deno.TcpConn) => {
    open.add(connection);
    try {
      const request = await readRequest(connection);
      if (request === "") return;
      requests.push(request.split("\r\n")[0]!);
      await handler(connection, request);
    } catch {
      // The client or the test has closed it.
    } finally {
      open.delete(connection);
      close(connection);
    }
  };
  const accepting = (async () => {
    for await (const connection of listener) {
      const done = serve(connection).finally(() => running.delete(done));
      running.add(done);
    }
  })();
  return {
    url: `http://127.0.0.1:${listener.addr.port}`,
    requests,
    async [Symbol.asyncDispose]() {
      listener.close();
      await accepting.catch(() => {});
      open.forEach(close);
      await Promise.allSettled(running);
    },
  };
}

/** Writes text, or bytes, whole. */
export async function send(connection: Deno.TcpConn, data: string | Uint8Array): Promise<void> {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  for (let written = 0; written < bytes.length;) {
    written += await connection.write(bytes.subarray(written));
  }
}

async function readRequest(connection: Deno.TcpConn): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(65_536);
  for (;;) {
    const head = text.indexOf("\r\n\r\n");
    const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
    if (head >= 0 && text.length >= head + 4 + length) return text;
    const count = await connection.read(buffer);
    if (count === null) return text;
    text += new TextDecoder("latin1").decode(buffer.subarray(0, count));
  }
}

function close(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // It is closed.
  }
}
