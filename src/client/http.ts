import { HttpError, ProtocolError, UnreachableError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { retry, type RetryOptions } from "../internal/retry.ts";
import { classifyFetchError, httpError, unreachableReason } from "./classify.ts";

/** Which key a call carries (`srt/utils/auth.py`). */
export type KeyLevel = "api" | "admin";

/** One request to the server. */
export interface HttpCall {
  readonly method: "GET" | "POST";
  /** Path with query, from the root of the address. */
  readonly path: string;
  /** JSON body of a POST. */
  readonly body?: unknown;
  readonly key?: KeyLevel;
  /** Name of the wait; default method and path. */
  readonly phase?: string;
  readonly timeoutMs: number;
  readonly hint?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /**
   * The body travels as a stream, which `fetch` never sends again. Deno otherwise re-sends a POST
   * when a kept-alive connection dies, which would run a control call twice.
   */
  readonly sentOnce?: boolean;
  /** Tries after the first; default 0. */
  readonly retries?: number;
  /** Called when the connection was lost and the request may still run, before any other try. */
  readonly onLost?: () => Promise<void>;
}

/** How a connection is made. */
export interface HttpConnectionOptions {
  readonly url: string;
  readonly apiKey?: string | undefined;
  readonly adminApiKey?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly httpClient?: Deno.HttpClient | undefined;
  readonly clock?: Clock | undefined;
  readonly retryPauses: Pick<RetryOptions, "initialDelayMs" | "maxDelayMs" | "jitter">;
}

/** HTTP to one server: address, keys, deadlines, retries and the errors of the library. */
export class HttpConnection implements Disposable {
  /** Address without credentials, path or trailing slash. */
  readonly url: string;
  readonly #base: string;
  readonly #headers: Readonly<Record<KeyLevel, Readonly<Record<string, string>>>>;
  readonly #client: Deno.HttpClient;
  readonly #ownsClient: boolean;
  readonly #clock: Clock;
  readonly #retryPauses: HttpConnectionOptions["retryPauses"];

  constructor(options: HttpConnectionOptions) {
    const address = parseAddress(options.url);
    this.#base = address.origin + address.pathname.replace(/\/+$/, "");
    this.url = this.#base;
    const apiKey = options.apiKey;
    const adminKey = options.adminApiKey ?? apiKey;
    this.#headers = {
      api: { ...options.headers, ...bearer(apiKey) },
      admin: { ...options.headers, ...bearer(adminKey) },
    };
    this.#ownsClient = options.httpClient === undefined;
    this.#client = options.httpClient ?? createPool();
    this.#clock = options.clock ?? systemClock;
    this.#retryPauses = options.retryPauses;
  }

  /** Sends and reads the whole answer as text. */
  text(call: HttpCall): Promise<{ status: number; text: string }> {
    return this.#retrying(call, () =>
      this.#withDeadline(call, async (signal) => {
        const response = await this.#fetch(call, signal);
        const text = await this.#readText(call, response);
        if (!response.ok) throw this.#errorOf(call, response.status, text);
        return { status: response.status, text };
      }));
  }

  /** Sends and reads the answer as JSON. */
  async json(call: HttpCall): Promise<unknown> {
    // Parsed by hand: the router answers JSON as text/plain.
    const { text } = await this.text(call);
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new ProtocolError(
        `${endpointOf(call)} at ${this.url} should answer JSON, got: ${text.slice(0, 200)}`,
        { cause },
      );
    }
  }

  /** Sends and returns once the head of a 2xx answer is here; the caller reads the body. */
  open(call: HttpCall, bodySignal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    return this.#retrying(call, () =>
      this.#withDeadline(call, async () => {
        const response = await this.#fetch(call, bodySignal);
        if (!response.ok) {
          throw this.#errorOf(call, response.status, await this.#readText(call, response));
        }
        if (response.body === null) {
          throw new ProtocolError(`${endpointOf(call)} at ${this.url} answered without a body`);
        }
        return response.body;
      }));
  }

  /** Closes idle connections. */
  [Symbol.dispose](): void {
    if (this.#ownsClient) this.#client.close();
  }

  /** Words for an error while a body is read. */
  classify(call: Pick<HttpCall, "method" | "path">, error: unknown): unknown {
    return classifyFetchError(error, { url: new URL(this.#base), endpoint: endpointOf(call) });
  }

  async #retrying<T>(call: HttpCall, work: () => Promise<T>): Promise<T> {
    const attempt = async () => {
      try {
        return await work();
      } catch (error) {
        const isLost = error instanceof UnreachableError && unreachableReason(error) === "lost";
        if (isLost) await call.onLost?.();
        throw error;
      }
    };
    if (!call.retries) return await attempt();
    return await retry({
      retries: call.retries,
      ...this.#retryPauses,
      shouldRetry: isWorthAnotherTry,
      signal: call.signal,
      clock: this.#clock,
    }, attempt);
  }

  #withDeadline<T>(call: HttpCall, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return withDeadline({
      phase: call.phase ?? endpointOf(call),
      timeoutMs: call.timeoutMs,
      peer: this.url,
      hint: call.hint,
      signal: call.signal,
      clock: this.#clock,
    }, work);
  }

  async #fetch(call: HttpCall, signal: AbortSignal): Promise<Response> {
    const headers: Record<string, string> = { ...this.#headers[call.key ?? "api"] };
    let body: BodyInit | null = null;
    if (call.method === "POST") {
      headers["content-type"] = "application/json";
      const json = JSON.stringify(call.body ?? {});
      body = call.sentOnce ? new Blob([json]).stream() : json;
    }
    try {
      return await fetch(this.#base + call.path, {
        method: call.method,
        headers,
        body,
        signal,
        client: this.#client,
        // A redirect would carry the key to another place.
        redirect: "manual",
      });
    } catch (error) {
      throw this.classify(call, error);
    }
  }

  async #readText(call: HttpCall, response: Response): Promise<string> {
    try {
      return await response.text();
    } catch (error) {
      throw this.classify(call, error);
    }
  }

  #errorOf(call: HttpCall, status: number, body: string): HttpError {
    return httpError({ status, endpoint: endpointOf(call), body, server: this.url });
  }
}

/** A connection pool with the settings measured best for many calls to one server. */
export function createPool(): Deno.HttpClient {
  return Deno.createHttpClient({
    http2: false,
    poolMaxIdlePerHost: 1024,
    // Below the 5 s after which uvicorn closes an idle connection.
    poolIdleTimeout: 4000,
  });
}

/** Whether the same request can succeed when sent again, without harm. */
export function isWorthAnotherTry(error: unknown): boolean {
  if (error instanceof UnreachableError) {
    const reason = unreachableReason(error);
    return reason === "refused" || reason === "lost";
  }
  return error instanceof HttpError && [408, 429, 502, 503, 504].includes(error.status);
}

function endpointOf(call: Pick<HttpCall, "method" | "path">): string {
  return `${call.method} ${call.path.split("?")[0]}`;
}

function bearer(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { authorization: `Bearer ${key}` };
}

function parseAddress(url: string): URL {
  const address = URL.parse(url);
  if (address === null || !/^https?:$/.test(address.protocol)) {
    throw new ValidationError(
      `Server address must be an http or https URL such as "http://127.0.0.1:30000", got ` +
        JSON.stringify(withoutCredentials(url)),
    );
  }
  if (address.username !== "" || address.password !== "") {
    throw new ValidationError(
      `Server address ${address.host} must not carry a user or password: give the key as apiKey`,
    );
  }
  return address;
}

function withoutCredentials(url: string): string {
  return url.replace(/\/\/[^@/]*@/, "//");
}
