import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import type { HttpServer, NetAddress, ServeOptions } from "../types.ts";
import { builtin } from "./builtin.ts";
import { leavingSignal, writeBody } from "./response.ts";

/** Listens and answers. */
export async function serve(options: ServeOptions): Promise<HttpServer> {
  const { hostname, port, signal } = options;
  const server = makeServer(options);
  const listening = Promise.withResolvers<void>();
  server.once("error", listening.reject);
  server.listen({ port, host: hostname }, listening.resolve);
  await listening.promise;
  server.off("error", listening.reject);
  server.on("error", () => {});
  const running = new NodeHttpServer(server);
  if (signal?.aborted) running.end();
  else signal?.addEventListener("abort", () => running.end(), { once: true });
  return running;
}

/** A server that answers, once it listens. */
export function makeServer(options: Pick<ServeOptions, "handler" | "onError">): Server {
  const server = builtin("node:http").createServer((message, response) =>
    void answer(message, response, options)
  );
  // What clients do on a broken connection must not end the process.
  server.on("clientError", (_, socket) => socket.destroy());
  // How long a request takes is the business of who answers.
  server.requestTimeout = 0;
  return server;
}

class NodeHttpServer implements HttpServer {
  readonly addr: NetAddress;
  readonly finished: Promise<void>;
  readonly #server: Server;
  /** Requests that each connection is busy with. */
  readonly #busy = new Map<Socket, number>();
  #isEnding = false;

  constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket: Socket) => {
      this.#count(socket, 0);
      socket.once("close", () => this.#busy.delete(socket));
    });
    server.on("request", ({ socket }, response) => {
      this.#count(socket, 1);
      response.once("close", () => this.#count(socket, -1));
    });
    const { address, port } = server.address() as AddressInfo;
    this.addr = { hostname: address, port };
    this.finished = new Promise((resolve) => server.once("close", resolve));
  }

  shutdown(): Promise<void> {
    this.#server.close();
    this.#isEnding = true;
    // Not `closeIdleConnections()`: it leaves those on which no request came yet.
    for (const socket of this.#busy.keys()) this.#count(socket, 0);
    return this.finished;
  }

  /** Counts what a connection is busy with; at the end it is closed once that is nothing. */
  #count(socket: Socket, change: number): void {
    const count = (this.#busy.get(socket) ?? 0) + change;
    if (!socket.destroyed) this.#busy.set(socket, count);
    if (this.#isEnding && count === 0) socket.end(() => socket.destroy());
  }

  /** Breaks the connections. */
  end(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

async function answer(
  message: IncomingMessage,
  response: ServerResponse,
  { handler, onError }: Pick<ServeOptions, "handler" | "onError">,
): Promise<void> {
  const signal = leavingSignal(message, response);
  try {
    const request = requestOf(message, signal);
    const made = request === undefined
      ? new Response("The Host header is no host\n", { status: 400 })
      : await (async () => await handler(request))().catch(onError);
    await write(made, response, signal);
  } catch {
    // The body failed in the middle: the client must not take what it has for the whole.
    response.destroy();
  }
}

function requestOf(message: IncomingMessage, signal: AbortSignal): Request | undefined {
  const { method = "GET", url = "/", headers } = message;
  const address = URL.parse(url.startsWith("/") ? `http://${headers.host}${url}` : url);
  if (address === null || headers.host === undefined) return undefined;
  const hasBody = method !== "GET" && method !== "HEAD";
  const list = new Headers();
  for (let i = 0; i + 1 < message.rawHeaders.length; i += 2) {
    try {
      list.append(message.rawHeaders[i]!, message.rawHeaders[i + 1]!);
    } catch {
      // A value that no header may have is none.
    }
  }
  return new Request(address, {
    method,
    headers: list,
    signal,
    ...(hasBody ? { body: bodyOf(message), duplex: "half" } : {}),
  } as RequestInit);
}

function bodyOf(message: IncomingMessage): ReadableStream<Uint8Array<ArrayBuffer>> {
  const parts = message[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await parts.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await parts.return?.();
    },
  }, { highWaterMark: 0 });
}

async function write(
  made: Response,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const headers: Record<string, string | string[]> = {};
  for (const [name, value] of made.headers) headers[name] = value;
  response.writeHead(made.status, headers);
  if (made.body === null) {
    response.end();
    return;
  }
  // Who waits for the first part sees that there is an answer.
  response.flushHeaders();
  await writeBody(made.body, response, signal);
}
