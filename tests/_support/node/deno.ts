/**
 * What tests use of Deno, made of Node's built-ins, so that they run in Node and Bun. The sources get
 * nothing of it: the build puts this in the place of `Deno` in files of tests only.
 */
import { promises as files, readFileSync } from "node:fs";
import { createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { createServer as createTlsServer } from "node:tls";
import { inspect } from "node:util";
import { NodeConnection } from "../../../src/runtime/node/connection.ts";
import { NodeRuntime } from "../../../src/runtime/node/mod.ts";
import { makeServer } from "../../../src/runtime/node/serve.ts";
import { test } from "./registry.ts";

const node = new NodeRuntime();

/** Thrown by what only Deno has; the test then counts as one that needs it. */
export class NeedsDeno extends Error {}

class TestConnection extends NodeConnection {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super(socket);
    this.#socket = socket;
  }

  get remoteAddr() {
    return {
      transport: "tcp",
      hostname: this.#socket.remoteAddress,
      port: this.#socket.remotePort,
    };
  }

  get localAddr() {
    return { transport: "tcp", hostname: this.#socket.localAddress, port: this.#socket.localPort };
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve) => this.#socket.end(resolve));
  }

  get readable(): ReadableStream<Uint8Array> {
    return new ReadableStream({
      pull: async (controller) => {
        const part = new Uint8Array(16_384);
        const length = await this.read(part);
        if (length === null) controller.close();
        else controller.enqueue(part.subarray(0, length));
      },
      cancel: () => this[Symbol.dispose](),
    });
  }

  [Symbol.dispose](): void {
    try {
      this.close();
    } catch {
      // It was closed already.
    }
  }
}

/** Without a host Node listens at once, so that the port is known. */
function listen({ port = 0 }: { readonly port?: number }) {
  const arrived: Socket[] = [];
  const waiting: ((socket: Socket | undefined) => void)[] = [];
  const server = createTcpServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
    const next = waiting.shift();
    if (next === undefined) arrived.push(socket);
    else next(socket);
  });
  let isClosed = false;
  server.listen(port);
  const address = server.address();
  if (address === null || typeof address === "string") throw inUse();
  const accept = async () => {
    if (isClosed) throw new Error("The listener is closed");
    const socket = arrived.shift() ?? await new Promise<Socket | undefined>((resolve) => {
      waiting.push(resolve);
    });
    if (socket === undefined) throw Object.assign(new Error("closed"), { name: "BadResource" });
    return new TestConnection(socket);
  };
  const close = () => {
    if (isClosed) throw Object.assign(new Error("closed"), { name: "BadResource" });
    isClosed = true;
    server.close();
    for (const socket of arrived) socket.destroy();
    for (const resolve of waiting) resolve(undefined);
  };
  return {
    addr: { transport: "tcp", hostname: "127.0.0.1", port: address.port },
    accept,
    close,
    ref: () => void server.ref(),
    unref: () => void server.unref(),
    [Symbol.dispose]: () => isClosed || close(),
    async *[Symbol.asyncIterator]() {
      while (!isClosed) {
        try {
          yield await accept();
        } catch {
          return;
        }
      }
    },
  };
}

function inUse(): Error {
  return Object.assign(new Error("The port is taken"), { name: "AddrInUse", code: "EADDRINUSE" });
}

type Handler = (request: Request) => Response | Promise<Response>;
interface Serving {
  readonly port?: number;
  /** With both it speaks TLS. */
  readonly key?: string;
  readonly cert?: string;
  readonly signal?: AbortSignal;
  readonly handler?: Handler;
  readonly onError?: (error: unknown) => Response;
  readonly onListen?: (address: { hostname: string; port: number }) => void;
}

function serve(options: Serving | Handler, given?: Handler) {
  const { port = 0, key, cert, signal, handler, onError, onListen }: Serving =
    typeof options === "function" ? { handler: options } : options;
  const http = makeServer({
    handler: given ?? handler!,
    onError: onError ?? (() => new Response("Internal Server Error", { status: 500 })),
  });
  const secure = key === undefined || cert === undefined
    ? undefined
    : createTlsServer({ key, cert }, (socket) => http.emit("connection", socket));
  // A client that does not trust the certificate breaks off.
  secure?.on("tlsClientError", (_, socket) => socket.destroy());
  const server = secure ?? http;
  server.listen(port);
  const address = server.address();
  if (address === null || typeof address === "string") throw inUse();
  const addr = { transport: "tcp", hostname: "127.0.0.1", port: address.port };
  onListen?.(addr);
  const finished = new Promise<void>((resolve) => server.once("close", resolve));
  const shutdown = () => {
    server.close();
    if (secure === undefined) http.closeIdleConnections();
    else http.closeAllConnections();
    return finished;
  };
  signal?.addEventListener("abort", () => {
    server.close();
    http.closeAllConnections();
  }, { once: true });
  return {
    addr,
    finished,
    shutdown,
    ref: () => void server.ref(),
    unref: () => void server.unref(),
    [Symbol.asyncDispose]: shutdown,
  };
}

/** By their names, as the sources tell them apart. */
const errors = new Proxy({}, {
  get(_, name: string) {
    return class extends Error {
      override name = name;
      static override [Symbol.hasInstance](error: unknown): boolean {
        return error instanceof Error && error.name === name;
      }
    };
  },
});

const known = {
  test,
  errors,
  inspect: (value: unknown) => inspect(value),
  pid: process.pid,
  build: { os: process.platform },
  env: {
    get: (name: string) => process.env[name],
    set: (name: string, value: string) => void (process.env[name] = value),
    delete: (name: string) => void delete process.env[name],
    toObject: () => ({ ...process.env }),
  },
  listen,
  serve,
  connect: async (to: { hostname?: string; port: number }) => {
    const { connect } = await import("node:net");
    const socket = connect({
      host: to.hostname ?? "127.0.0.1",
      port: to.port,
      allowHalfOpen: true,
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new TestConnection(socket);
  },
  open: node.open.bind(node),
  stat: node.stat.bind(node),
  lstat: node.lstat.bind(node),
  readDir: node.readDir.bind(node),
  mkdir: node.mkdir.bind(node),
  remove: node.remove.bind(node),
  rename: node.rename.bind(node),
  readFile: node.readFile.bind(node),
  readTextFile: (path: string | URL) => files.readFile(path, "utf8"),
  readTextFileSync: (path: string | URL) => readFileSync(path, "utf8"),
  writeTextFile: (path: string | URL, text: string, { append = false } = {}) =>
    files.writeFile(path, text, { flag: append ? "a" : "w" }),
  writeFile: (path: string | URL, bytes: Uint8Array) => files.writeFile(path, bytes),
  copyFile: (from: string, to: string) => files.copyFile(from, to),
  symlink: (from: string, to: string) => files.symlink(from, to),
  truncate: (path: string, length?: number) => files.truncate(path, length),
  makeTempDir: async ({ prefix = "" } = {}) => await files.mkdtemp(`${tmpdir()}/${prefix}`),
};

/** Takes the place of `Deno` in tests. */
export const Deno = new Proxy(known, {
  get(target, name) {
    if (!(name in target)) throw new NeedsDeno(`Deno.${String(name)}`);
    return target[name as keyof typeof target];
  },
});
