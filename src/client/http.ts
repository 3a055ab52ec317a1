import { HttpError, UnreachableError } from "../errors.ts";
import { type HttpAnswer, HttpPool } from "../http/mod.ts";
import { checkHeaders } from "../http/mod.ts";
import { propagationHeaders } from "../internal/observe.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { parseJson } from "../internal/json.ts";
import { retry, type RetryOptions } from "../internal/retry.ts";
import { messageOf } from "../internal/thrown.ts";
import { httpError } from "./classify.ts";
import type { ClientLimitSettings } from "./limits.ts";

/** Which key a call carries (`srt/utils/auth.py`). */
export type KeyLevel = "api" | "admin";

/** One request to the server. */
export interface HttpCall {
  readonly method: "GET" | "POST" | "DELETE";
  /** Path with query, from the root of the address. */
  readonly path: string;
  /** JSON body of a POST; the number of the attempt, from 0, may matter. */
  readonly body?: ((attempt: number) => unknown) | undefined;
  readonly key?: KeyLevel | undefined;
  /** Name of the wait; default method and path. */
  readonly phase?: string | undefined;
  /** For all attempts together. */
  readonly timeoutMs: number;
  readonly hint?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Longest answer. Default `answerBytes` of the limits. */
  readonly maxBytes?: { readonly name: string; readonly bytes: number } | undefined;
  /**
   * For a call that must not be done twice: it travels over a connection of its own, so that a lost
   * connection is never one that had ended before.
   */
  readonly isSentOnce?: boolean | undefined;
  /** Tries after the first; default 0. */
  readonly retries?: number | undefined;
  /** Called when the connection was lost and the request may still run, before any other try. */
  readonly onLost?: (() => Promise<void>) | undefined;
}

/** How a connection is made. */
export interface HttpConnectionOptions {
  readonly url: string;
  readonly apiKey?: string | undefined;
  readonly adminApiKey?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly proxy?: string | undefined;
  readonly caCerts?: readonly string[] | undefined;
  readonly maxIdleConnections?: number | undefined;
  readonly clock: Clock;
  readonly limits: ClientLimitSettings;
  readonly retryPauses: Pick<RetryOptions, "initialDelayMs" | "maxDelayMs" | "jitter">;
}

/** HTTP to one server: address, keys, deadlines, limits, retries and the errors of the library. */
export class HttpConnection implements Disposable {
  /** Address without credentials or trailing slash. */
  readonly url: string;
  readonly #headers: Readonly<Record<KeyLevel, Readonly<Record<string, string>>>>;
  readonly #pool: HttpPool;
  readonly #options: HttpConnectionOptions;

  constructor(options: HttpConnectionOptions) {
    this.#options = options;
    this.#pool = new HttpPool({ ...options, maxIdle: options.maxIdleConnections });
    this.url = this.#pool.address.origin + this.#pool.address.basePath;
    const { apiKey, adminApiKey = apiKey, headers } = options;
    this.#headers = {
      api: { ...headers, ...bearer(apiKey) },
      admin: { ...headers, ...bearer(adminApiKey) },
    };
    checkHeaders(this.#headers.api);
    checkHeaders(this.#headers.admin);
  }

  /** Headers of the calls of a level: a gateway's, and the key. */
  headersOf(level: KeyLevel): Readonly<Record<string, string>> {
    return this.#headers[level];
  }

  /** Sends and reads the whole answer as text. */
  text(call: HttpCall): Promise<{ status: number; text: string }> {
    return this.#attempts(call, async (attempt, signal) => {
      using answer = await this.#send(call, attempt, signal);
      const { name, bytes } = call.maxBytes ??
        { name: "limits.answerBytes", bytes: this.#options.limits.answerBytes };
      const text = await answer.text(name, bytes);
      return { status: answer.head.status, text };
    });
  }

  /** Sends and reads the answer as JSON. */
  async json(call: HttpCall): Promise<unknown> {
    // Whatever the content type: the router answers JSON as text/plain.
    const { text } = await this.text(call);
    return parseJson(text, `${endpointOf(call)} at ${this.url}`);
  }

  /**
   * Sends and returns once the head of a 2xx answer is here; the caller reads the body, which ends
   * with `bodySignal`.
   */
  open(call: HttpCall, bodySignal: AbortSignal): Promise<HttpAnswer> {
    return this.#attempts(call, (attempt) => this.#send(call, attempt, bodySignal));
  }

  /** Resolves when connections of calls that were given up are closed. */
  settled(): Promise<void> {
    return this.#pool.settled();
  }

  /** Closes idle connections. */
  [Symbol.dispose](): void {
    this.#pool[Symbol.dispose]();
  }

  /** Tries as often as the call says, within one deadline. */
  #attempts<T>(
    call: HttpCall,
    work: (attempt: number, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { clock, retryPauses } = this.#options;
    let failure: unknown;
    return withDeadline({
      phase: call.phase ?? endpointOf(call),
      timeoutMs: call.timeoutMs,
      peer: this.url,
      lastHeard: () => failure === undefined ? undefined : messageOf(failure),
      hint: call.hint,
      signal: call.signal,
      clock,
    }, (signal) =>
      retry({
        ...retryPauses,
        retries: call.retries ?? 0,
        shouldRetry: isWorthAnotherTry,
        signal,
        clock,
      }, async (attempt) => {
        try {
          return await work(attempt, signal);
        } catch (error) {
          failure = error;
          const isLost = error instanceof UnreachableError && error.reason === "lost";
          if (isLost && !signal.aborted) await call.onLost?.();
          throw error;
        }
      }));
  }

  /** Sends once; an answer that is not 2xx is an error. */
  async #send(call: HttpCall, attempt: number, signal: AbortSignal): Promise<HttpAnswer> {
    const answer = await this.#pool.send({
      method: call.method,
      path: call.path,
      headers: { ...this.#headers[call.key ?? "api"], ...propagationHeaders() },
      body: call.method === "POST" ? JSON.stringify(call.body?.(attempt) ?? {}) : undefined,
      // After a lost connection the other idle ones are probably lost too.
      isFresh: call.isSentOnce || attempt > 0,
    }, signal);
    const { status, headers } = answer.head;
    if (status >= 200 && status < 300) return answer;
    using _ = answer;
    throw httpError({
      status,
      endpoint: endpointOf(call),
      body: await answer.beginning(this.#options.limits.errorBytes),
      server: this.url,
      proxy: proxyThatAnswered(status, headers, this.#pool.proxyOrigin),
    });
  }
}

/** Whether the same request can succeed when sent again, without harm. */
export function isWorthAnotherTry(error: unknown): boolean {
  if (error instanceof UnreachableError) return ["refused", "lost"].includes(error.reason);
  return error instanceof HttpError && [408, 429, 502, 503, 504].includes(error.status);
}

/** Who answered in the server's place, as far as the answer tells; proxies sign their answers. */
function proxyThatAnswered(
  status: number,
  headers: ReadonlyMap<string, string>,
  configured: string | undefined,
): string | undefined {
  const signs = ["via", "proxy-agent", "proxy-connection", "proxy-authenticate", "x-squid-error"];
  const sign = signs.find((name) => headers.has(name));
  if (sign === undefined && status !== 407) return configured;
  const found = sign === undefined ? "" : `${sign}: ${headers.get(sign)!.slice(0, 80)}`;
  return [configured, found].filter(Boolean).join(", ") || "status 407";
}

function endpointOf(call: Pick<HttpCall, "method" | "path">): string {
  return `${call.method} ${call.path.split("?")[0]}`;
}

function bearer(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { authorization: `Bearer ${key}` };
}
