import { HttpError, UnreachableError } from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";
import { normalUrl, parseAccepted, parseWorkers, type RouterWorker } from "./worker.ts";

/** Deadline and cancellation of one call. */
export interface RouterCallOptions {
  /** Longest wait, in milliseconds. */
  readonly timeoutMs?: number | undefined;
  /** Cancellation. */
  readonly signal?: AbortSignal | undefined;
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

const defaultTimeoutMs = 30_000;

/** The calls of a router's own HTTP interface. All of them may be repeated without harm. */
export class RouterApi {
  readonly #url: string;
  readonly #apiKey: string | undefined;

  constructor(url: string, apiKey: string | undefined) {
    this.#url = normalUrl(url);
    this.#apiKey = apiKey;
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
      return JSON.parse(answer.body);
    } catch {
      // Not even JSON: what the schema then says about text is clear enough.
      return answer.body;
    }
  }

  async #call(endpoint: string, options: RouterCallOptions, body?: unknown): Promise<Answer> {
    const [method, path] = endpoint.split(" ") as [string, string];
    const headers = new Headers();
    if (body !== undefined) headers.set("content-type", "application/json");
    if (this.#apiKey) headers.set("authorization", `Bearer ${this.#apiKey}`);
    const work = async (signal: AbortSignal): Promise<Answer> => {
      const response = await fetch(this.#url + path, {
        method,
        headers,
        body: body === undefined ? null : JSON.stringify(body),
        signal,
      });
      return { status: response.status, body: await response.text() };
    };
    return await withDeadline({
      phase: `router ${endpoint}`,
      timeoutMs: options.timeoutMs ?? defaultTimeoutMs,
      peer: this.#url,
      signal: options.signal,
    }, async (signal) => {
      try {
        return await work(signal);
      } catch (error) {
        throw signal.aborted ? error : this.#connectError(error);
      }
    });
  }

  #connectError(error: unknown): unknown {
    const host = new URL(this.#url).host;
    const known = asPermissionError(error, `--allow-net=${host}`, `connect to ${host}`);
    if (known !== error || !(error instanceof TypeError)) return known;
    return new UnreachableError(`No router answers at ${this.#url}: is it running?`, {
      url: this.#url,
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
