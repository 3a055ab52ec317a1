import { closeQuietly } from "./close_quietly.ts";
import { connectTcp } from "./connect_tcp.ts";
import { whileNoPipe } from "./while_no_pipe.ts";
import type { Connection, Runtime, TcpConnection, TlsOptions } from "./types.ts";

/** Deno. What it opens is handed on as it is, so that nothing stands between. */
export const denoRuntime: Runtime = {
  name: "deno",
  get pid() {
    return Deno.pid;
  },
  isGranted: (permission) => Deno.permissions.querySync(permission).state === "granted",
  env: (name) => Deno.env.get(name),

  connect: connectTcp,
  startTls,
  // Not `async`, which would be too late for who listens: it throws at once.
  serve: ({ hostname, port, signal, handler, onError }) =>
    new Promise((resolve) => {
      const server = Deno.serve({
        hostname,
        port,
        ...(signal === undefined ? {} : { signal }),
        onListen() {},
        onError,
      }, (request) => handler(request));
      resolve(server);
    }),

  open: (path, options) =>
    options?.write || options?.append
      ? whileNoPipe(path, () => Deno.open(path, options))
      : Deno.open(path, options),
  stat: (path) => Deno.stat(path),
  lstat: (path) => Deno.lstat(path),
  readFile: (path, options) => Deno.readFile(path, options),
  writeTextFile: (path, text) => Deno.writeTextFile(path, text),
  readDir: (path) => Deno.readDir(path),
  mkdir: (path, options) => Deno.mkdir(path, options),
  remove: (path, options) => Deno.remove(path, options),
  rename: (from, to) => Deno.rename(from, to),
  makeTempDir: (options) => Deno.makeTempDir(options),
};

async function startTls(
  connection: TcpConnection,
  { hostname, caCerts, signal }: TlsOptions,
): Promise<Connection> {
  // The one that is open: encryption takes the plain one over.
  let open: Connection = connection;
  const onAbort = () => closeQuietly(open);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    const secure = await Deno.startTls(connection as Deno.TcpConn, {
      hostname,
      caCerts: [...caCerts],
      alpnProtocols: ["http/1.1"],
    });
    open = secure;
    signal.throwIfAborted();
    await secure.handshake();
    return secure;
  } catch (error) {
    closeQuietly(open);
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
