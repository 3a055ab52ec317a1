import { checkOptionNames } from "../internal/option_names.ts";
import { StateError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { inBrackets, isLoopback } from "../internal/hostname.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { isSameSecret } from "../internal/same_secret.ts";
import { type AnySGLangWrapper, SGLangWrapper } from "../policy/wrapper/sglang_wrapper.ts";
import { addressOf, keyOf } from "./address.ts";
import { answerStream, answerWhole } from "./answering.ts";
import type { Api } from "./apis/api.ts";
import { chatCompletions } from "./apis/chat_completions.ts";
import { completions } from "./apis/completions.ts";
import { countTokens, messages } from "./apis/messages.ts";
import { openAIError } from "./apis/openai_error.ts";
import { responses } from "./apis/responses.ts";
import { checkBody } from "./body_limits.ts";
import { asRefusal, GatewayRefusal, wrongMethod } from "./fault.ts";
import type { GatewaySession } from "./gateway_session.ts";
import { type GatewayRequest, HttpServer } from "./http_server.ts";
import { newKey } from "./ids.ts";
import {
  checkGatewayOptions,
  type GatewayLimits,
  type GatewayOptions,
  type GatewaySource,
  type GatewayStats,
  SESSION_OPTION_NAMES,
  type SessionLimits,
  sessionLimits,
  type SessionOptions,
} from "./options.ts";
import { readBody } from "./request_body.ts";
import { ServedModels } from "./served_models.ts";
import { OpenSession } from "./session.ts";
import { answerRoute, openedSession, sessionOptionsOf } from "./session_routes.ts";

/** The APIs by path. */
const apis: Readonly<Record<string, Api>> = {
  "/v1/chat/completions": chatCompletions,
  "/v1/completions": completions,
  "/v1/responses": responses,
  "/v1/messages": messages,
  "/v1/messages/count_tokens": countTokens,
};

/**
 * An HTTP server before an engine that speaks the APIs which agents are written for, and records each
 * answer as it was sampled: ids, log-probabilities, weight versions. An agent needs nothing but its
 * base URL and its key.
 *
 * Prompts are rendered here and sent as ids. A conversation that goes on extends the very ids that it
 * had; one that was edited, compacted or asked again becomes a branch. Each agent has a session: its
 * key is the API key, its end gives the rows.
 *
 * Permissions: `--allow-net` for the address and for what the engine needs.
 *
 * @example
 * ```ts ignore
 * await using engine = await AsyncSGLang.connect("http://127.0.0.1:30000");
 * await using gateway = await RecordingGateway.listen(engine);
 * const session = gateway.open();
 * await runAgent({ baseURL: session.baseUrl, apiKey: session.key }); // any OpenAI client
 * session.reward(1);
 * const { rows } = await session.end();
 * ```
 */
export class RecordingGateway implements AsyncDisposable {
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  readonly #sessionLimits: SessionLimits;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #models: ServedModels;
  readonly #wrapper: AnySGLangWrapper;
  readonly #ownsWrapper: boolean;
  readonly #byKey = new Map<string, OpenSession>();
  readonly #byId = new Map<string, OpenSession>();
  readonly #adminKey: string | null;
  #http!: HttpServer;
  #opened = 0;
  readonly #counts = { running: 0, turns: 0 };
  #refused = 0;
  #closing: Promise<void> | undefined;

  private constructor(source: GatewaySource, options: GatewayOptions) {
    const { limits, sessionLimits } = checkGatewayOptions(options);
    const { hostname = "127.0.0.1", defaultMaxTokens = 1024, models } = options;
    this.#options = options;
    this.#limits = limits;
    this.#sessionLimits = sessionLimits;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#ownsWrapper = !(source instanceof SGLangWrapper);
    this.#wrapper = source instanceof SGLangWrapper
      ? source
      : new SGLangWrapper(source, options.policy);
    const served = { models, wrapper: this.#wrapper, defaultMaxTokens };
    this.#models = new ServedModels(served);
    this.#adminKey = options.adminKey ?? (isLoopback(hostname) ? null : newKey("sk-admin"));
  }

  /**
   * Listens. Nothing is asked of the servers before the first request.
   *
   * @param source The policy to serve: an engine, a wrapper of one, or the address of a server.
   * @throws {ValidationError} An option is wrong.
   * @throws {StateError} The port is taken.
   * @throws {PermissionError} Deno may not listen there.
   */
  static async listen(
    source: GatewaySource,
    options: GatewayOptions = {},
  ): Promise<RecordingGateway> {
    const gateway = new RecordingGateway(source, options);
    const { hostname = "127.0.0.1", port = 0, signal } = options;
    gateway.#http = await HttpServer.listen(
      { hostname, port, limits: gateway.#limits, clock: gateway.#clock },
      (request) => gateway.#serve(request),
    );
    gateway.#logger.info(`Gateway listens on ${gateway.url}`);
    signal?.addEventListener("abort", () => void gateway.close(), { once: true });
    return gateway;
  }

  /** Address, for example `http://127.0.0.1:34567`. */
  get url(): string {
    const { hostname, port } = this.#http.address;
    return `http://${inBrackets(hostname)}:${port}`;
  }

  /** The key for opening sessions over HTTP; `null` where none is needed. */
  get adminKey(): string | null {
    return this.#adminKey;
  }

  /** What was counted. */
  get stats(): GatewayStats {
    return {
      sessions: this.#byId.size,
      ...this.#counts,
      refused: this.#refused,
    };
  }

  /** Sessions that are open. */
  get sessions(): readonly GatewaySession[] {
    return [...this.#byId.values()];
  }

  /**
   * Opens a session from this process.
   *
   * @throws {GatewayRefusal} There are as many as may be.
   * @throws {StateError} The gateway is closed.
   */
  open(options: SessionOptions = {}): GatewaySession {
    checkOptionNames(options, SESSION_OPTION_NAMES, "a session");
    if (this.#closing !== undefined) throw new StateError("The gateway is closed");
    const { maxSessions } = this.#limits;
    if (this.#byId.size >= maxSessions) {
      throw new GatewayRefusal(`There are ${maxSessions} sessions already`, {
        status: 429,
        reason: "too_many_sessions",
        retryAfterS: 5,
      });
    }
    const session = new OpenSession({
      number: this.#opened++,
      baseUrl: `${this.url}/v1`,
      limits: sessionLimits(options.limits, this.#sessionLimits),
      options,
      clock: this.#clock,
      counts: this.#counts,
      onEnd: (session, ended) => {
        this.#byKey.delete(session.key);
        this.#byId.delete(session.id);
        const { id, end, reward, rows } = ended;
        this.#logger.info(`Session ${id} ${end}: ${rows.length} turns, reward ${reward}`);
        this.#options.onSession?.(ended);
      },
    });
    this.#byKey.set(session.key, session);
    this.#byId.set(session.id, session);
    this.#logger.debug(`Session ${session.id} is open`);
    return session;
  }

  /**
   * Answers a request in this process, without a connection: what clients take as their `fetch`. Only
   * the path of the address counts. As any `fetch` it rejects as soon as its signal fires.
   *
   * @example
   * ```ts ignore
   * const session = gateway.open();
   * const { baseUrl: baseURL, key: apiKey } = session;
   * const client = new OpenAI({ baseURL, apiKey, fetch: gateway.fetch });
   * ```
   */
  readonly fetch = async (
    input: string | URL | Request,
    init?: RequestInit,
  ): Promise<Response> => {
    const request = new Request(input, init);
    const { method, headers, body, signal } = request;
    signal.throwIfAborted();
    const path = new URL(request.url).pathname;
    const answer = this.#serve({ method, path, headers, body: body ?? nothing(), signal });
    return await orAborted(answer, signal);
  };

  /** Ends all sessions, and stops listening. Safe to call twice. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode RecordingGateway.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#byId.values()].map((session) => session.close()));
    await this.#http.close();
    if (this.#ownsWrapper) await this.#wrapper[Symbol.asyncDispose]();
  }

  async #serve(request: GatewayRequest): Promise<Response> {
    const { key, path } = addressOf(request.path);
    const api = Object.hasOwn(apis, path) ? apis[path] : undefined;
    try {
      if (this.#closing !== undefined) {
        throw new GatewayRefusal("The gateway closes", { status: 503, reason: "closing" });
      }
      return await this.#route(request, { key: key ?? keyOf(request.headers), path, api });
    } catch (error) {
      this.#refused++;
      const refusal = asRefusal(error);
      const { status, retryAfterS } = refusal;
      if (status >= 500) this.#logger.warn(`${request.method} ${path}: ${error}`);
      const body = (api?.refuse ?? openAIError)(refusal);
      return Response.json(body, {
        status,
        headers: retryAfterS === null ? {} : { "retry-after": String(retryAfterS) },
      });
    }
  }

  async #route(
    request: GatewayRequest,
    { key, path, api }: { key: string | null; path: string; api: Api | undefined },
  ): Promise<Response> {
    const { method } = request;
    if (api !== undefined) {
      if (method !== "POST") throw wrongMethod(method, "POST");
      return await this.#answer(request, this.#sessionOf(key), api);
    }
    if (path === "/v1/models" || path.startsWith("/v1/models/")) {
      if (method !== "GET") throw wrongMethod(method, "GET");
      this.#sessionOf(key);
      return Response.json(await this.#models.listed(path.slice("/v1/models/".length)));
    }
    if (path === "/health") return Response.json({ status: "ok", ...this.stats });
    if (path === "/sessions") {
      this.#requireAdmin(request, key);
      if (method !== "POST") throw wrongMethod(method, "POST");
      const session = this.open(sessionOptionsOf(await this.#body(request)));
      return Response.json(openedSession(session), { status: 201 });
    }
    const found = /^\/sessions\/([^/]+)(?:\/(reward|end|abort|rows))?$/.exec(path);
    if (found === null) {
      throw new GatewayRefusal(`There is nothing at ${path.slice(0, 200)}`, {
        status: 404,
        reason: "not_found",
      });
    }
    return await this.#onSession(request, key, { id: found[1]!, action: found[2] });
  }

  async #answer(request: GatewayRequest, session: OpenSession, api: Api): Promise<Response> {
    const waitS = this.#options.holdBack?.({ session, stats: this.stats }) ?? null;
    if (waitS !== null) {
      throw new GatewayRefusal("The rows of this answer would be too old for the trainer", {
        status: 429,
        reason: "held_back",
        retryAfterS: waitS,
      });
    }
    const { maxConcurrent } = this.#limits;
    if (this.#counts.running >= maxConcurrent) {
      throw new GatewayRefusal(`${maxConcurrent} answers are under way already`, {
        status: 429,
        reason: "too_many_requests",
        retryAfterS: 1,
      });
    }
    // Who reads bodies is busy, too.
    using place = session.enter();
    const { maxSamples, slowReadMs } = this.#limits;
    const body = await this.#body(request);
    checkBody(body, this.#limits);
    const read = api.read(body, request.headers, session.history);
    const { asked } = read;
    if (asked.samples > maxSamples) {
      throw new GatewayRefusal(`At most ${maxSamples} answers to one prompt can be asked for`, {
        status: 400,
        reason: "invalid_request",
        param: "n",
      });
    }
    const model = this.#models.named(asked.model);
    if (api === countTokens) {
      const tokens = await session.countTokens(asked, model, request.signal);
      return Response.json({ input_tokens: tokens });
    }
    const { samplingSeed: seed, ...unseeded } = asked.sampling;
    const isUnseeded = seed !== undefined && !await model.takesSeeds();
    const ignored = isUnseeded ? [...read.ignored, "seed"] : read.ignored;
    const counted = { ...read, asked: isUnseeded ? { ...asked, sampling: unseeded } : asked };
    place[Symbol.dispose]();
    const answering = read.isStream ? answerStream : answerWhole;
    return await answering(counted, {
      session,
      model,
      slowReadMs,
      clock: this.#clock,
      logger: this.#logger,
      signal: request.signal,
      headers: {
        "x-request-id": read.id,
        ...(ignored.length === 0 ? {} : { "x-sglang-rl-ignored": ignored.join(", ") }),
      },
    });
  }

  async #onSession(
    request: GatewayRequest,
    key: string | null,
    { id, action }: { id: string; action: string | undefined },
  ): Promise<Response> {
    const session = this.#byId.get(id);
    // Who may not look at a session is not told whether there is one.
    if (session === undefined || key !== session.key) {
      this.#requireAdmin(request, key, "No open session has this id and this key");
    }
    if (session === undefined) {
      throw new GatewayRefusal("There is no open session of this id; it may have ended", {
        status: 404,
        reason: "no_session",
      });
    }
    const { method } = request;
    return await answerRoute(session, { method, action, body: () => this.#body(request) });
  }

  #body(request: GatewayRequest): Promise<Record<string, unknown>> {
    const { maxBodyBytes: maxBytes, bodyTimeoutMs: timeoutMs } = this.#limits;
    return readBody(request, { maxBytes, timeoutMs, clock: this.#clock, limits: this.#limits });
  }

  #sessionOf(key: string | null): OpenSession {
    const session = key === null ? undefined : this.#byKey.get(key);
    if (session !== undefined) return session;
    throw new GatewayRefusal(
      key === null
        ? "Give the key of a session as the API key. POST /sessions opens one"
        : "No open session has this key; it may have ended. POST /sessions opens another",
      { status: 401, reason: "invalid_api_key" },
    );
  }

  #requireAdmin(request: GatewayRequest, key: string | null, withoutAdmin?: string): void {
    if (this.#adminKey === null && withoutAdmin !== undefined) {
      throw new GatewayRefusal(withoutAdmin, { status: 401, reason: "invalid_api_key" });
    }
    if (this.#adminKey === null) {
      // A page in a browser on this machine could ask too; programs send no origin.
      if (!request.headers.has("origin")) return;
      throw new GatewayRefusal("Pages of browsers cannot open sessions without an adminKey", {
        status: 403,
        reason: "origin",
      });
    }
    if (key !== null && isSameSecret(key, this.#adminKey)) return;
    throw new GatewayRefusal("This needs the admin key of the gateway", {
      status: 401,
      reason: "invalid_api_key",
    });
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
