import { ExhaustedError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { type Address, parseAddress } from "./address.ts";
import { checkCertificates } from "./certificates.ts";
import type { BodyReader } from "./body.ts";
import { dial } from "./dial.ts";
import { exchangeError, HttpSocket } from "./exchange.ts";
import { checkHeaders, encodeHead, type ResponseHead } from "./message.ts";
import { findProxy, type Proxy } from "./proxy.ts";
import type { HeadLimits } from "./read_head.ts";

/** Below the 5 s after which uvicorn closes an idle connection. */
const IDLE_MS = 4000;
/** Idle connections that are kept. */
const MAX_IDLE = 1024;

/** How connections to one server are made. */
export interface HttpPoolOptions {
  /** Address of the server. */
  readonly url: string;
  /** See {@linkcode findProxy}. Default none, whatever the environment says. */
  readonly proxy?: string | undefined;
  /** Certificates, in PEM, that are trusted besides the system's. */
  readonly caCerts?: readonly string[] | undefined;
  /** Idle connections that are kept for the next request. Default 1024. */
  readonly maxIdle?: number | undefined;
  /** How much is read of the heads of answers. Default 64 KiB and 256 lines. */
  readonly limits?: HeadLimits | undefined;
  /** The time to use. */
  readonly clock: Clock;
}

/** One request. */
export interface HttpRequest {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  /** Path with query, below the path of the server's address. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** JSON. */
  readonly body?: string | undefined;
  /** What kind of JSON it is. Default `application/json`. */
  readonly contentType?: string | undefined;
  /**
   * Over a connection of its own. One that was used before may have ended, without a sign yet, and
   * then nobody can say whether the request arrived.
   */
  readonly isFresh?: boolean | undefined;
}

/** An answer whose head is here. It holds its connection until it is disposed. */
export interface HttpAnswer extends Disposable {
  readonly head: ResponseHead;
  /** Reads the body. Its errors are of this library; the signal's reason when that fired. */
  read(): Promise<Uint8Array | null>;
  /** All of the body as text. */
  text(limit: string, maxBytes: number): Promise<string>;
  /** The beginning of the body as text. */
  beginning(maxBytes: number): Promise<string>;
}

/**
 * HTTP/1.1 to one server: nothing is sent twice, followed, unpacked or sent through a proxy unless
 * asked. Why not `fetch`: docs/decisions/http.md.
 */
export class HttpPool implements Disposable {
  /** Where the server is. */
  readonly address: Address;
  readonly #options: HttpPoolOptions;
  readonly #proxy: Proxy | undefined;
  #idle: { socket: HttpSocket; since: number }[] = [];
  #busy = 0;
  /** Connections that are being made, and the signals of those who want them. */
  readonly #dials = new Map<Promise<unknown>, AbortSignal>();
  /** Who waits for a connection because the system gives no more. */
  readonly #waiting = new Set<() => void>();
  #closed = false;

  /** Makes it; nothing is opened until the first request. */
  constructor(options: HttpPoolOptions) {
    this.address = parseAddress(options.url);
    checkCertificates(options.caCerts);
    this.#options = options;
    this.#proxy = findProxy(this.address, options.proxy);
  }

  /** The proxy that is used, without its password. */
  get proxyOrigin(): string | undefined {
    return this.#proxy?.address.origin;
  }

  /** Sends a request; resolves when the head of the answer is here. `signal` ends the body too. */
  async send(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer> {
    signal.throwIfAborted();
    const bytes = this.#encode(request);
    const socket = await this.#take(request.isFresh ?? false, signal);
    if (signal.aborted) {
      // It fired between the connection and here, where nobody listened to it.
      this.#giveBack(socket, false);
      throw signal.reason;
    }
    const endpoint = `${request.method} ${request.path.split("?")[0]}`;
    const where = { endpoint, origin: this.address.origin };
    const onAbort = () => socket[Symbol.dispose]();
    signal.addEventListener("abort", onAbort, { once: true });
    const end = (isWhole: boolean) => {
      signal.removeEventListener("abort", onAbort);
      this.#giveBack(socket, isWhole);
    };
    try {
      const { head, body } = await socket.exchange(bytes);
      return new Answer({ head, body, signal, where, end });
    } catch (error) {
      end(false);
      const known = signal.aborted ? signal.reason : exchangeError(error, where);
      const mayBeOld = socket.answers > 0 && known instanceof UnreachableError;
      // The server may have closed it a moment ago. A question is asked again on a new connection.
      if (!mayBeOld || request.method !== "GET") throw known;
      return await this.send({ ...request, isFresh: true }, signal);
    }
  }

  /** Closes idle connections, and others once they are not used any more. */
  [Symbol.dispose](): void {
    this.#closed = true;
    for (const { socket } of this.#idle.splice(0)) socket[Symbol.dispose]();
  }

  /**
   * Resolves when connections that nobody waits for any more are closed. A call that is aborted ends
   * at once, while its connection may just be made.
   */
  async settled(): Promise<void> {
    const left = [...this.#dials].filter(([, signal]) => signal.aborted);
    await Promise.allSettled(left.map(([dialing]) => dialing));
  }

  async #dialed<T>(dialing: Promise<T>, signal: AbortSignal): Promise<T> {
    this.#dials.set(dialing, signal);
    try {
      return await dialing;
    } finally {
      this.#dials.delete(dialing);
    }
  }

  #encode(request: HttpRequest): Uint8Array {
    const { method, path, headers = {}, body, contentType = "application/json" } = request;
    checkHeaders(headers);
    const { host, basePath, origin, isSecure } = this.address;
    const isForwarded = this.#proxy !== undefined && !isSecure;
    const content = new TextEncoder().encode(body ?? "");
    const head = encodeHead({
      method,
      target: (isForwarded ? origin : "") + basePath + path,
      headers: {
        host,
        accept: "*/*",
        ...headers,
        ...(isForwarded ? this.#proxy!.headers : {}),
        ...(body === undefined ? {} : { "content-type": contentType }),
        ...(method === "GET" ? {} : { "content-length": String(content.length) }),
      },
    });
    // One write, so that small requests travel in one packet.
    const bytes = new Uint8Array(head.length + content.length);
    for (let i = 0; i < head.length; i++) bytes[i] = head.charCodeAt(i);
    bytes.set(content, head.length);
    return bytes;
  }

  async #take(isFresh: boolean, signal: AbortSignal): Promise<HttpSocket> {
    for (;;) {
      const idle = isFresh ? undefined : this.#takeIdle();
      if (idle !== undefined) return idle;
      try {
        const { caCerts, clock } = this.#options;
        const options = { address: this.address, proxy: this.#proxy, caCerts, clock };
        this.#busy++;
        const socket = await this.#dialed(dial(options, signal), signal);
        // A fresh one takes the place of the oldest idle one: calls that must not go over a kept
        // connection would else leave one more behind each time.
        if (isFresh) this.#idle.shift()?.socket[Symbol.dispose]();
        return new HttpSocket(socket, this.#options.limits);
      } catch (error) {
        this.#busy--;
        const mayWait = error instanceof ExhaustedError && this.#busy + this.#idle.length > 0;
        if (!mayWait) throw error;
        await this.#someEnd(signal);
      }
    }
  }

  #takeIdle(): HttpSocket | undefined {
    const oldest = this.#options.clock.now() - IDLE_MS;
    while (this.#idle.length > 0) {
      const { socket, since } = this.#idle.pop()!;
      if (since < oldest) socket[Symbol.dispose]();
      else {
        socket.wake();
        this.#busy++;
        return socket;
      }
    }
    return undefined;
  }

  /** Resolves when a connection of ours has become free. */
  async #someEnd(signal: AbortSignal): Promise<void> {
    // An idle one that a fresh connection has to make room for.
    const idle = this.#idle.pop();
    if (idle !== undefined) return idle.socket[Symbol.dispose]();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    try {
      await orAborted(promise, signal);
    } finally {
      this.#waiting.delete(resolve);
    }
  }

  #giveBack(socket: HttpSocket, isWhole: boolean): void {
    this.#busy--;
    const isOfUse = isWhole && !this.#closed && !socket.hasLeftovers;
    if (isOfUse && this.#idle.length < (this.#options.maxIdle ?? MAX_IDLE)) {
      this.#idle.push({ socket, since: this.#options.clock.now() });
      socket.rest(() => {
        socket[Symbol.dispose]();
        this.#idle = this.#idle.filter((idle) => idle.socket !== socket);
      });
    } else socket[Symbol.dispose]();
    const oldest = this.#options.clock.now() - IDLE_MS;
    while (this.#idle.length > 0 && this.#idle[0]!.since < oldest) {
      this.#idle.shift()!.socket[Symbol.dispose]();
    }
    const [next] = this.#waiting;
    next?.();
  }
}

interface AnswerParts {
  readonly head: ResponseHead;
  readonly body: BodyReader;
  readonly signal: AbortSignal;
  readonly where: { endpoint: string; origin: string };
  readonly end: (isWhole: boolean) => void;
}

class Answer implements HttpAnswer {
  readonly head: ResponseHead;
  readonly #parts: AnswerParts;
  #ended = false;

  constructor(parts: AnswerParts) {
    this.head = parts.head;
    this.#parts = parts;
    if (parts.body.ended) this[Symbol.dispose]();
  }

  read(): Promise<Uint8Array | null> {
    return this.#reading(() => this.#parts.body.read());
  }

  text(limit: string, maxBytes: number): Promise<string> {
    return this.#reading(() => this.#parts.body.text(limit, maxBytes));
  }

  beginning(maxBytes: number): Promise<string> {
    return this.#reading(() => this.#parts.body.beginning(maxBytes));
  }

  async #reading<T>(work: () => Promise<T>): Promise<T> {
    const { signal, where, body } = this.#parts;
    try {
      const result = await work();
      if (body.ended) this[Symbol.dispose]();
      return result;
    } catch (error) {
      this[Symbol.dispose]();
      throw signal.aborted ? signal.reason : exchangeError(error, where);
    }
  }

  [Symbol.dispose](): void {
    if (this.#ended) return;
    this.#ended = true;
    const { body, head, end } = this.#parts;
    end(body.ended && head.keepsAlive);
  }
}
