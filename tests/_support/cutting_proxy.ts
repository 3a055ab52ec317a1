/** A plain TCP relay, as a load balancer is one, that cuts connections while a server works. */

/** A running relay. */
export interface CuttingProxy extends AsyncDisposable {
  readonly url: string;
  /** `rid` of every generation that came through. */
  readonly rids: readonly string[];
}

/** Cuts the first `generations` generations, each `afterMs` after it came. */
export function cuttingProxy(
  target: URL,
  { generations, afterMs }: { generations: number; afterMs: number },
): CuttingProxy {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const rids: string[] = [];
  const open = new Set<Deno.Conn>();
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const close = (...sockets: Deno.Conn[]) => {
    for (const socket of sockets) {
      if (!open.delete(socket)) continue;
      socket.close();
    }
  };
  const relay = async (from: Deno.Conn, to: Deno.Conn, look: (text: string) => void) => {
    const buffer = new Uint8Array(65_536);
    try {
      for (;;) {
        const length = await from.read(buffer);
        if (length === null) break;
        look(new TextDecoder().decode(buffer.subarray(0, length)));
        for (let written = 0; written < length;) {
          written += await to.write(buffer.subarray(written, length));
        }
      }
    } catch {
      // One of both ends has closed.
    }
    close(from, to);
  };
  const running: Promise<unknown>[] = [];
  const accepting = (async () => {
    for await (const down of listener) {
      const up = await Deno.connect({ hostname: target.hostname, port: Number(target.port) });
      open.add(down).add(up);
      const look = (text: string) => {
        const rid = /^POST \/generate[^]*"rid":"([^"]+)"/.exec(text)?.[1];
        if (rid === undefined) return;
        rids.push(rid);
        if (rids.length > generations) return;
        timers.add(setTimeout(() => close(down, up), afterMs));
      };
      running.push(relay(down, up, look), relay(up, down, () => {}));
    }
  })();
  return {
    url: `http://127.0.0.1:${listener.addr.port}`,
    rids,
    async [Symbol.asyncDispose]() {
      for (const timer of timers) clearTimeout(timer);
      listener.close();
      await accepting.catch(() => {});
      close(...open);
      await Promise.all(running);
    },
  };
}
