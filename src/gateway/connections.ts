import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import type { Clock } from "../internal/clock.ts";
import { openAIError } from "./apis/openai_error.ts";
import { GatewayRefusal } from "./fault.ts";

/** How long bytes are still taken, and dropped, of a request that has its answer already. */
const LINGER_MS = 1000;

/** What is known of a connection. */
interface Use {
  /** Requests that are being answered. */
  answering: number;
  /** Whether a request on it has not come whole. */
  isWithin: boolean;
  /** Whether it had too many requests at once: it ends, and no more are answered. */
  isOver: boolean;
}

/**
 * The connections of a server. There are no more than `most`: when one more comes, the one on which
 * nothing has been asked for the longest time makes room, so that idle ones by the thousand keep
 * nobody out. What is no HTTP is told so before its connection ends.
 */
export class Connections {
  readonly #most: number;
  readonly #mostPipelined: number;
  readonly #clock: Clock;
  /** Those that idle longest come first. */
  readonly #uses = new Map<Duplex, Use>();

  constructor(server: Server, { most, mostPipelined, clock }: {
    readonly most: number;
    readonly mostPipelined: number;
    readonly clock: Clock;
  }) {
    this.#most = most;
    this.#mostPipelined = mostPipelined;
    this.#clock = clock;
    server.on("connection", (socket: Duplex) => this.#add(socket));
    server.on("clientError", (error: Error, socket: Duplex) => this.#refuse(error, socket));
    server.on("connect", (_: IncomingMessage, socket: Duplex) => {
      end(socket, refusal(405, "method_not_allowed", "This is no proxy: CONNECT is not answered"));
    });
  }

  /**
   * Notes that a request on a connection is answered until its response is closed. `false` where it is
   * not to be: a connection that asks on and on before it has read its answers is ended.
   */
  answering(message: IncomingMessage, response: ServerResponse): boolean {
    const { socket } = message;
    const use = this.#uses.get(socket);
    if (use === undefined) return true;
    if (use.answering >= this.#mostPipelined) {
      if (!use.isOver) this.#refusePipelined(socket, response);
      use.isOver = true;
      return false;
    }
    use.answering++;
    use.isWithin = true;
    message.once("end", () => use.isWithin = false);
    response.once("close", () => {
      use.answering--;
      if (use.isWithin && !message.complete) this.#leave(message, socket);
      // Now it is the one that was used last.
      if (this.#uses.delete(socket)) this.#uses.set(socket, use);
    });
    return !use.isOver;
  }

  #refusePipelined(socket: Duplex, response: ServerResponse): void {
    const told = refusal(
      429,
      "pipelined",
      `More than ${this.#mostPipelined} requests came on a connection whose answers were not read: ` +
        "read them first, or open more connections",
    );
    const body = JSON.stringify(openAIError(told));
    response.writeHead(429, { "content-type": "application/json", connection: "close" });
    response.end(body);
    socket.pause();
    const cancel = this.#clock.schedule(LINGER_MS, () => socket.destroy());
    socket.once("close", cancel);
  }

  /** Ends a connection whose request was answered before it came whole, once the answer may be read. */
  #leave(message: IncomingMessage, socket: Duplex): void {
    if (socket.destroyed) return;
    message.resume();
    socket.end();
    const cancel = this.#clock.schedule(LINGER_MS, () => socket.destroy());
    socket.once("close", cancel);
  }

  #add(socket: Duplex): void {
    this.#uses.set(socket, { answering: 0, isWithin: false, isOver: false });
    socket.once("close", () => this.#uses.delete(socket));
    if (this.#uses.size <= this.#most) return;
    for (const [idle, { answering }] of this.#uses) {
      if (answering > 0) continue;
      this.#uses.delete(idle);
      idle.destroy();
      return;
    }
  }

  /** What clients do on a broken connection must not end the process. */
  #refuse(error: Error, socket: Duplex): void {
    const { answering = 0, isWithin = false } = this.#uses.get(socket) ?? {};
    if (!socket.writable || answering > 0 || isWithin) return void socket.destroy();
    const { code } = error as { readonly code?: string };
    if (code === "ERR_HTTP_REQUEST_TIMEOUT") {
      end(socket, refusal(408, "head_timeout", "The head of the request did not come in time"));
    } else if (code === "HPE_HEADER_OVERFLOW") {
      end(socket, refusal(431, "head_too_long", "The head of the request is longer than 16 KiB"));
    } else if (code?.startsWith("HPE_")) {
      end(socket, refusal(400, "invalid_request", "The request is no HTTP/1.1"));
    } else socket.destroy();
  }
}

function refusal(status: number, reason: string, message: string): GatewayRefusal {
  return new GatewayRefusal(message, { status, reason });
}

/** Answers on a connection that no request can be read of, and ends it. */
function end(socket: Duplex, told: GatewayRefusal): void {
  const body = JSON.stringify(openAIError(told));
  socket.on("error", () => {});
  socket.end(
    `HTTP/1.1 ${told.status} ${told.reason}\r\ncontent-type: application/json\r\n` +
      `connection: close\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  );
}
