import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { Clock } from "../internal/clock.ts";
import { asListenError } from "../internal/listen_error.ts";
import { Connections } from "./connections.ts";
import { leavingSignal, writeBody } from "../runtime/node/response.ts";

/** A request, as the gateway reads it. */
export interface GatewayRequest {
  readonly method: string;
  /** The path, without the query. */
  readonly path: string;
  readonly headers: Headers;
  readonly body: AsyncIterable<Uint8Array>;
  /** Fires when the client goes away before it has its answer. */
  readonly signal: AbortSignal;
}

/** What connections may take, before there is a request. */
export interface ConnectionLimits {
  readonly headTimeoutMs: number;
  readonly bodyTimeoutMs: number;
  readonly maxConnections: number;
  readonly maxPipelined: number;
}

/** Answers a request. It must not throw. */
export type Handler = (request: GatewayRequest) => Promise<Response>;

/**
 * An HTTP server on `node:http`, which Deno, Node and Bun have. `Deno.serve` does not notice that a
 * client goes away while a request with a body of more than some hundred bytes has no answer yet, and
 * an answer that nobody waits for has to end on the servers.
 */
export class HttpServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /**
   * Listens.
   *
   * @throws {StateError} The port is taken.
   * @throws {PermissionError} Deno may not listen there.
   */
  static async listen(
    { hostname, port, limits, clock }: {
      readonly hostname: string;
      readonly port: number;
      readonly limits: ConnectionLimits;
      readonly clock: Clock;
    },
    handler: Handler,
  ): Promise<HttpServer> {
    const { headTimeoutMs, bodyTimeoutMs, maxConnections, maxPipelined } = limits;
    const server = createServer({
      headersTimeout: headTimeoutMs,
      // After it whoever was answered before the body had come sends no more of it.
      requestTimeout: headTimeoutMs + bodyTimeoutMs,
      connectionsCheckingInterval: Math.min(5_000, headTimeoutMs),
    }, (message, response) => {
      if (connections.answering(message, response)) void serve(message, response, handler);
    });
    const connections = new Connections(server, {
      most: maxConnections,
      mostPipelined: maxPipelined,
      clock,
    });
    const listening = Promise.withResolvers<void>();
    server.once("error", listening.reject);
    try {
      server.listen({ port, host: hostname }, listening.resolve);
      await listening.promise;
    } catch (error) {
      throw asListenError(error, { hostname, port });
    }
    server.on("error", () => {});
    return new HttpServer(server);
  }

  /** Where it listens. */
  get address(): { readonly hostname: string; readonly port: number } {
    const { address, port } = this.#server.address() as AddressInfo;
    return { hostname: address, port };
  }

  /** Stops listening, and ends the connections. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }
}

async function serve(
  message: IncomingMessage,
  response: ServerResponse,
  handler: Handler,
): Promise<void> {
  const signal = leavingSignal(message, response);
  const [path = "/"] = (message.url ?? "/").split("?", 1);
  const answer = await handler({
    method: message.method ?? "GET",
    path,
    headers: headersOf(message),
    body: message,
    signal,
  });
  try {
    await write(answer, response, signal);
  } catch {
    response.destroy();
  }
}

function headersOf(message: IncomingMessage): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(message.headers)) {
    if (typeof value !== "string") continue;
    try {
      headers.set(name, value);
    } catch {
      // A value that no header may have is none.
    }
  }
  return headers;
}

async function write(
  answer: Response,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const isStream = answer.headers.get("content-type")?.startsWith("text/event-stream");
  const headers = Object.fromEntries(answer.headers);
  if (!isStream) {
    const body = new Uint8Array(await answer.arrayBuffer());
    response.writeHead(answer.status, { ...headers, "content-length": String(body.length) });
    response.end(body);
    return;
  }
  response.writeHead(answer.status, headers);
  await writeBody(answer.body!, response, signal);
}
