import { LimitError, ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { inBrackets, isLoopback } from "../internal/hostname.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { requireSendableKey } from "../internal/same_secret.ts";
import { serveHttp } from "../internal/serve_http.ts";
import { messageOf } from "../internal/thrown.ts";
import type { RolloutFile } from "../rollout_file/mod.ts";
import { Monitor, PROMETHEUS_TYPE } from "../telemetry/mod.ts";
import type { DashboardActions } from "./actions.ts";
import {
  refuse,
  refuseStranger,
  refuseWithoutKey,
  respond,
  respondInParts,
  respondInTime,
} from "./guard.ts";
import { LiveFeed } from "./live.ts";
import { pageFiles } from "./page/mod.ts";
import { type RowFilter, Trajectories } from "./trajectories.ts";

const actionNames = ["pause", "resume", "drain", "undrain", "abortSync"] as const;
type ActionName = typeof actionNames[number];

/** Characters of a text that is searched for. */
const LONGEST_SEARCH = 200;

/** Options of {@linkcode openDashboard}. */
export interface DashboardOptions {
  /** What the live page shows. Default: an empty one, for a page of trajectories alone. */
  readonly monitor?: Monitor | undefined;
  /** Rollouts for the page of trajectories; the dashboard closes the file. */
  readonly file?: {
    readonly rollouts: RolloutFile;
    /** What the page calls it. */
    readonly name: string;
    /** Told which row is read, each thousand rows, while the file is looked through. */
    readonly onProgress?: ((row: number) => void) | undefined;
  } | undefined;
  /** Texts of single tokens, for the coloured view; else their ids are shown. */
  readonly tokenTexts?: ((ids: readonly number[]) => readonly string[]) | undefined;
  /** What the buttons do; one without an action is not there. */
  readonly actions?: DashboardActions | undefined;
  /** Where it listens. Default `"127.0.0.1"`; elsewhere `key` is required. */
  readonly hostname?: string | undefined;
  /** Default 0: a free one. */
  readonly port?: number | undefined;
  /** Who has it may use the buttons; where others can connect, also read. At least 16 visible ASCII characters. */
  readonly key?: string | undefined;
  /** Milliseconds between two states. Default 1,000. */
  readonly everyMs?: number | undefined;
  /** Ends it. */
  readonly signal?: AbortSignal | undefined;
  /** Told of errors in answers. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** For tests. @internal */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  monitor: true,
  file: true,
  tokenTexts: true,
  actions: true,
  hostname: true,
  port: true,
  key: true,
  everyMs: true,
  signal: true,
  onError: true,
  clock: true,
} as const satisfies OptionNames<DashboardOptions>;

/** A page that is served. */
export interface Dashboard extends AsyncDisposable {
  /** Where it is. */
  readonly url: string;
  /** Who looks at the live state now. */
  readonly readers: number;
  /** Rows of the file that cannot be read; the page tells which and why. */
  readonly damaged: number;
  /** Resolves when it has ended. */
  readonly finished: Promise<void>;
}

/**
 * Serves one page that shows a run while it goes on, and trajectories of a file. It needs no other
 * host, and asks the servers only while somebody looks.
 *
 * Needs `--allow-net` of its address.
 *
 * @throws {ValidationError} It listens where others can connect, and has no key; or the key is short, or
 *   holds what a header cannot carry.
 * @throws {PermissionError} Deno may not listen there.
 * @throws {StateError} The port is taken.
 *
 * @example
 * ```ts ignore
 * import { openDashboard } from "@sglang-rl/sglang-rl/dashboard";
 * import { Monitor } from "@sglang-rl/sglang-rl/telemetry";
 *
 * using monitor = new Monitor({ engine, collector, sender });
 * await using dashboard = await openDashboard({ monitor });
 * console.log(dashboard.url);
 * ```
 */
export async function openDashboard(options: DashboardOptions = {}): Promise<Dashboard> {
  checkOptionNames(options, OPTION_NAMES, "openDashboard()");
  const { hostname = "127.0.0.1", port = 0, key, signal, clock = systemClock } = options;
  checkKey(hostname, key);
  await using stack = new AsyncDisposableStack();
  const trajectories = options.file === undefined ? undefined : stack.use(
    await openTrajectories(options.file, signal),
  );
  const monitor = options.monitor ?? stack.use(new Monitor({}));
  const feed = stack.use(
    new LiveFeed(monitor, { clock, everyMs: options.everyMs ?? 1000, onError: options.onError }),
  );
  const page = new Page({ options: { ...options, hostname }, monitor, feed, trajectories });
  const server = await serveHttp({
    hostname,
    port,
    onError: options.onError,
    handler: (request) => page.answer(request),
  });
  const owned = stack.move();
  const end = async () => {
    signal?.removeEventListener("abort", onAbort);
    // Streams first: a server waits for its answers to end.
    feed[Symbol.dispose]();
    await server.shutdown();
    await owned.disposeAsync();
  };
  let ended: Promise<void> | undefined;
  const endOnce = () => ended ??= end();
  const onAbort = () => void endOnce();
  if (signal?.aborted) onAbort();
  else signal?.addEventListener("abort", onAbort, { once: true });
  return {
    url: `http://${inBrackets(hostname)}:${server.addr.port}/`,
    finished: server.finished,
    damaged: trajectories?.damaged ?? 0,
    get readers() {
      return feed.readers;
    },
    [Symbol.asyncDispose]: endOnce,
  };
}

async function openTrajectories(
  { rollouts, name, onProgress }: NonNullable<DashboardOptions["file"]>,
  signal: AbortSignal | undefined,
): Promise<Trajectories> {
  try {
    return await Trajectories.open(rollouts, name, { signal, onProgress });
  } catch (error) {
    // The file was to belong to the dashboard.
    await rollouts[Symbol.asyncDispose]();
    throw error;
  }
}

function checkKey(hostname: string, key: string | undefined): void {
  requireSendableKey("The key of a dashboard", key);
  if (key === undefined && isLoopback(hostname)) return;
  if (key !== undefined && key.length >= 16) return;
  throw new ValidationError(
    key === undefined
      ? `A dashboard at ${hostname} can be reached by others: give a key of at least 16 characters`
      : `The key of a dashboard has at least 16 characters, not ${key.length}`,
  );
}

interface PageParts {
  readonly options: DashboardOptions & { readonly hostname: string };
  readonly monitor: Monitor;
  readonly feed: LiveFeed;
  readonly trajectories: Trajectories | undefined;
}

class Page {
  readonly #parts: PageParts;

  constructor(parts: PageParts) {
    this.#parts = parts;
  }

  async answer(request: Request): Promise<Response> {
    const { options } = this.#parts;
    const { hostname, key } = options;
    const stranger = refuseStranger(request, { hostname, key });
    if (stranger !== undefined) return stranger;
    const { pathname, searchParams } = new URL(request.url);
    const file = pageFiles[pathname];
    if (file !== undefined) {
      if (request.method !== "GET" && request.method !== "HEAD") return refuse(405, "Only GET");
      return respond(file.text, { type: file.type });
    }
    if (!isLoopback(hostname)) {
      const refused = refuseWithoutKey(request, { hostname, key });
      if (refused !== undefined) return refused;
    }
    try {
      return await this.#data(request, pathname, searchParams);
    } catch (error) {
      if (error instanceof ValidationError || error instanceof LimitError) {
        return refuse(400, error.message);
      }
      options.onError?.(error);
      return refuse(500, "It did not work; the program that serves this page tells why");
    }
  }

  async #data(request: Request, path: string, query: URLSearchParams): Promise<Response> {
    const { feed, monitor, options } = this.#parts;
    const isThere = (name: ActionName) => options.actions?.[name] !== undefined;
    if (path.startsWith("/api/do/")) {
      return await this.#act(request, path.slice("/api/do/".length), query);
    }
    if (request.method !== "GET") return refuse(405, "Only GET");
    switch (path) {
      case "/metrics":
        return respond(await monitor.metrics(), { type: PROMETHEUS_TYPE });
      case "/api/about":
        return respond(JSON.stringify({
          live: options.monitor !== undefined,
          everyMs: feed.everyMs,
          file: this.#parts.trajectories?.describe() ?? null,
          actions: options.key === undefined ? [] : actionNames.filter(isThere),
          explained: options.actions?.explained ?? null,
        }));
      case "/api/state":
        return respond(JSON.stringify(await feed.state()));
      case "/api/live": {
        const stream = feed.open();
        if (stream === null) return refuse(503, "Too many look already");
        return respond(stream, { type: "text/event-stream" });
      }
    }
    const { trajectories } = this.#parts;
    if (trajectories === undefined) return refuse(404, "There is no such page");
    if (path === "/api/export") {
      const filter = filterOf(query);
      const lines = async function* (signal: AbortSignal) {
        yield* trajectories.jsonLines(await trajectories.filter(filter, { signal }), { signal });
      };
      return respondInParts(lines, {
        type: "application/jsonl",
        headers: { "content-disposition": 'attachment; filename="selection.jsonl"' },
      });
    }
    if (path === "/api/place") {
      const filter = filterOf(query);
      const row = required("row", countOf(query, "row"));
      trajectories.requireRow(row);
      return respondInTime(async (signal) => ({
        at: trajectories.placeOf(row, await trajectories.filter(filter, { signal })),
      }));
    }
    if (path === "/api/rows") {
      const filter = filterOf(query);
      const [from, count] = [countOf(query, "from") ?? 0, countOf(query, "count") ?? 100];
      return respondInTime(async (signal) => {
        const rows = await trajectories.filter(filter, { signal });
        return { total: rows.length, from, items: await trajectories.window(rows, from, count) };
      });
    }
    const part = await this.#trajectory(trajectories, path, query);
    return part === undefined
      ? refuse(404, "There is no such page")
      : respond(JSON.stringify(part));
  }

  /** What the page of trajectories asks for; undefined when there is no such thing. */
  async #trajectory(
    trajectories: Trajectories,
    path: string,
    query: URLSearchParams,
  ): Promise<unknown> {
    const row = countOf(query, "row");
    const from = countOf(query, "from") ?? 0;
    const count = countOf(query, "count");
    switch (path) {
      case "/api/row":
        return await trajectories.row(required("row", row));
      case "/api/messages":
        return await trajectories.messages(required("row", row), from, count);
      case "/api/text": {
        const part = query.get("part") === "info"
          ? "info"
          : required("part", countOf(query, "part"));
        return await trajectories.text(required("row", row), part);
      }
      case "/api/tokens": {
        const tokens = await trajectories.tokens(required("row", row), from, count);
        const texts = this.#parts.options.tokenTexts?.(tokens.items.map(({ id }) => id)) ?? null;
        return { ...tokens, texts };
      }
      case "/api/turns":
        return trajectories.turns(required("row", row), from, count);
      case "/api/group":
        return await trajectories.group(required("group", countOf(query, "group")), from, count);
    }
  }

  async #act(request: Request, name: string, query: URLSearchParams): Promise<Response> {
    const { options, monitor } = this.#parts;
    if (request.method !== "POST") return refuse(405, "Only POST");
    const { hostname, key, actions = {} } = options;
    const refused = refuseWithoutKey(request, { hostname, key });
    if (refused !== undefined) return refused;
    const known = actionNames.find((one) => one === name);
    const action = known === undefined ? undefined : actions[known];
    if (action === undefined) return refuse(404, "There is no such button");
    try {
      await action(query.get("server") ?? "");
    } catch (error) {
      monitor.note(`${name} by the page failed: ${messageOf(error)}`, "error");
      return refuse(409, messageOf(error).slice(0, 500));
    }
    monitor.note(`${name} by the page`);
    return respond(JSON.stringify({ done: name }));
  }
}

function filterOf(query: URLSearchParams): RowFilter {
  const text = query.get("q") || undefined;
  if (text !== undefined && text.length > LONGEST_SEARCH) {
    throw new ValidationError(`A search has at most ${LONGEST_SEARCH} characters`);
  }
  return {
    group: countOf(query, "group"),
    dialog: countOf(query, "dialog"),
    minReward: numberOf(query, "min"),
    maxReward: numberOf(query, "max"),
    finish: query.get("finish") || undefined,
    stale: yesOrNo(query, "stale"),
    damaged: yesOrNo(query, "damaged"),
    text,
  };
}

function yesOrNo(query: URLSearchParams, name: string): boolean | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  if (text === "yes" || text === "no") return text === "yes";
  throw new ValidationError(`${name} must be yes or no`);
}

function required(name: string, value: number | undefined): number {
  if (value === undefined) throw new ValidationError(`Say which: ${name} is missing`);
  return value;
}

function numberOf(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  const value = Number(text);
  if (!Number.isFinite(value)) throw new ValidationError(`${name} must be a number`);
  return value;
}

function countOf(query: URLSearchParams, name: string): number | undefined {
  const value = numberOf(query, name);
  if (value === undefined) return undefined;
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ValidationError(`${name} must be a whole number from 0 on`);
  }
  return value;
}
