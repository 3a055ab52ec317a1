import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { HttpError, UnreachableError } from "../errors.ts";
import { checkHeaders, HttpPool } from "../http/mod.ts";
import { systemClock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { parseJson } from "../internal/json.ts";
import { normalUrl, parseAccepted, parseWorkers, type RouterWorker } from "./worker.ts";

/** Deadline and cancellation of one call. */
export interface RouterCallOptions {
  /** Longest wait, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** Cancellation. */
  readonly signal?: AbortSignal | undefined;
}

const CALL_NAMES = {
  timeoutMs: true,
  signal: true,
} as const satisfies OptionNames<RouterCallOptions>;

interface Answer {
  readonly status: number;
  readonly body: string;
}

const defaultTimeoutMs = 30_000;
/** Longest answer of a router; a thousand servers take one of them. */
const answerBytes = 8 * 2 ** 20;

/** How a router is reached. */
export interface RouterApiOptions {
  /** Its key. */
  readonly apiKey?: string | undefined;
  /** HTTP proxy for the connections: its address, or `"environment"`. Default none. */
  readonly proxy?: string | undefined;
  /** Certificates, in PEM, that are trusted for https besides the system's. */
  readonly caCerts?: readonly string[] | undefined;
}

const NAMES = {
  apiKey: true,
  proxy: true,
  caCerts: true,
} as const satisfies OptionNames<RouterApiOptions>;

/** The calls of a router's own HTTP interface. All of them may be repeated without harm. */
export class RouterApi {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #pool: HttpPool;

  constructor(url: string, options: RouterApiOptions = {}) {
    checkOptionNames(options, NAMES, "a router");
    this.#url = normalUrl(url);
    const { apiKey, proxy, caCerts } = options;
    this.#headers = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
    checkHeaders(this.#headers);
    // Asked rarely, and nobody has to close a router that is not ours.
    this.#pool = new HttpPool({ url: this.#url, proxy, caCerts, maxIdle: 0, clock: systemClock });
  }

  get url(): string {
    return this.#url;
  }

  /** Whether a server is there that gets requests. */
  async isReady(options: RouterCallOptions = {}): Promise<boolean> {
    const { status } = await this.#call("GET /readiness", options);
    return status === 200;
  }

  async workers(options: RouterCallOptions = {}): Promise<RouterWorker[]> {
    return parseWorkers(await this.#json("GET /workers", options));
  }

  /** Asks the router to take a server in; it answers before it has looked at it. */
  async add(
    worker: { url: string; apiKey?: string | undefined },
    options: RouterCallOptions = {},
  ): Promise<string> {
    const body = { url: worker.url, ...(worker.apiKey ? { api_key: worker.apiKey } : {}) };
    return parseAccepted(await this.#json("POST /workers", options, body));
  }

  /** Asks the router to leave a server out; `false` when it does not know the id. */
  async remove(id: string, options: RouterCallOptions = {}): Promise<boolean> {
    const endpoint = `DELETE /workers/${encodeURIComponent(id)}`;
    const answer = await this.#call(endpoint, options);
    if (answer.status === 404) return false;
    this.#check(endpoint, answer);
    return true;
  }

  async #json(endpoint: string, options: RouterCallOptions, body?: unknown): Promise<unknown> {
    const answer = await this.#call(endpoint, options, body);
    this.#check(endpoint, answer);
    try {
      return parseJson(answer.body, endpoint);
    } catch {
      // Not even JSON: what the schema then says about text is clear enough.
      return answer.body;
    }
  }

  async #call(endpoint: string, options: RouterCallOptions, body?: unknown): Promise<Answer> {
    checkOptionNames(options, CALL_NAMES, "a call of a router");
    const [method, path] = endpoint.split(" ") as ["GET" | "POST" | "DELETE", string];
    return await withDeadline({
      phase: `router ${endpoint}`,
      timeoutMs: options.timeoutMs ?? defaultTimeoutMs,
      peer: this.#url,
      signal: options.signal,
    }, async (signal) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const request = { method, path, headers: this.#headers, body: text };
      try {
        using answer = await this.#pool.send(request, signal);
        return { status: answer.head.status, body: await answer.text("answerBytes", answerBytes) };
      } catch (error) {
        throw signal.aborted ? error : this.#connectError(error);
      }
    });
  }

  #connectError(error: unknown): unknown {
    if (!(error instanceof UnreachableError)) return error;
    return new UnreachableError(`No router answers at ${this.#url}: is it running?`, {
      url: this.#url,
      reason: error.reason,
      cause: error,
    });
  }

  #check(endpoint: string, answer: Answer): void {
    const { status, body } = answer;
    if (status >= 200 && status < 300) return;
    const said = body.slice(0, 500);
    const hint = status === 401 ? ": it wants a key, give `apiKey`" : said && `: ${said}`;
    throw new HttpError(`The router answered ${endpoint} with ${status}${hint}`, {
      status,
      endpoint,
      serverMessage: said,
    });
  }
}
