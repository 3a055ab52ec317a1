import { StateError, ValidationError } from "../errors.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";
import { hostOf } from "../internal/hostname.ts";
import { sleep, withDeadline } from "../internal/deadline.ts";
import {
  findPython,
  isPortFree,
  moduleCommand,
  pastProxy,
  type ProcessExit,
  ProcessTree,
  reservePorts,
  untilPortFree,
  waitUntilReady,
} from "../process/mod.ts";
import { RouterApi, type RouterApiOptions, type RouterCallOptions } from "./api.ts";
import { checkRouterOptions, routerArgs } from "./command.ts";
import type { SGLangRouterOptions } from "./options.ts";
import { normalUrl, type RouterWorker } from "./worker.ts";

const pollMs = 100;

/**
 * The SGLang router: one address in front of several servers. Data goes through it; what the router
 * does not pass on (weights, pause, abort) has to go to each server.
 *
 * @example
 * ```ts
 * import { SGLangRouter } from "@sglang-rl/sglang-rl";
 *
 * await using router = await SGLangRouter.launch({
 *   workers: ["http://127.0.0.1:30001", "http://127.0.0.1:30002"],
 * });
 * console.log(router.url, await router.workers());
 * ```
 */
export class SGLangRouter implements AsyncDisposable {
  readonly #api: RouterApi;
  readonly #tree: ProcessTree | undefined;
  #portsFree: Promise<void> | undefined;
  /** Where Prometheus finds its metrics, when the router is ours. */
  readonly metricsUrl: string | undefined;

  private constructor(api: RouterApi, tree?: ProcessTree, metricsUrl?: string) {
    this.#api = api;
    this.#tree = tree;
    this.metricsUrl = metricsUrl;
  }

  /**
   * Starts a router and waits until it sends requests to all `workers`.
   *
   * Needs `--allow-run=<python>` and `--allow-net=<host>`.
   *
   * @throws {ValidationError} When an option is wrong; nothing is started.
   * @throws {StateError} When a port that was asked for is taken.
   * @throws {CrashedError} When the router ends before it is ready, with its last lines.
   * @throws {TimeoutError} When it is not ready in time; it is gone by then.
   * @throws {AbortedError} When `signal` fires; it is gone by then.
   * @throws {PermissionError} When Deno may not run Python, listen or connect.
   */
  static async launch(options: SGLangRouterOptions): Promise<SGLangRouter> {
    checkRouterOptions(options);
    const python = findPython(options.python, ["SGLANG_ROUTER_PYTHON", "SGLANG_PYTHON"]);
    const host = options.host ?? "127.0.0.1";
    const local = host === "0.0.0.0" ? "127.0.0.1" : host;
    using lease = reservePorts({ count: 2, hostname: local });
    const port = options.port ?? lease.ports[0]!;
    const prometheusPort = options.prometheusPort ?? lease.ports[1]!;
    checkPorts({ port, prometheusPort, given: options, host: local });
    lease.release();
    const name = `SGLang router on port ${port}`;
    const args = routerArgs(options, { port, prometheusPort });
    const command = moduleCommand("sglang_router.launch_router", args);
    const tree = await ProcessTree.launch({
      name,
      command: [python, ...command.args],
      input: command.input,
      keeperPython: python,
      env: {
        PYTHONUNBUFFERED: "1",
        ...pastProxy([host, ...options.workers.map((url) => new URL(url).hostname)]),
        ...options.env,
      },
      logFile: options.logFile,
      onLine: options.onLog,
      secrets: command.secrets,
      stopGraceMs: options.stopGraceMs ?? 5000,
    });
    const api = new RouterApi(`http://${local}:${port}`, { apiKey: options.apiKey });
    let missing: readonly string[] = [];
    await waitUntilReady({
      name,
      tree,
      address: `${local}:${port}`,
      async probe(signal) {
        missing = await missingOf(api, options.workers, signal);
        return missing.length === 0 && (options.workers.length === 0 || api.isReady({ signal }));
      },
      missing: () => missing.length === 0 ? undefined : `no answer from ${missing.join(", ")}`,
      timeoutMs: options.readyTimeoutMs ?? 120_000,
      intervalMs: pollMs,
      onProgress: options.onProgress,
      signal: options.signal,
    });
    return new SGLangRouter(api, tree, `http://${local}:${prometheusPort}/metrics`);
  }

  /**
   * A router that runs already; `stop` leaves it alone. Nothing is sent.
   *
   * @throws {ValidationError} When `url` is not an http address.
   */
  static connect(url: string, options: RouterApiOptions = {}): SGLangRouter {
    return new SGLangRouter(new RouterApi(url, options));
  }

  /** Address, such as `http://127.0.0.1:12000`. */
  get url(): string {
    return this.#api.url;
  }

  /** Process id, when the router is ours. */
  get pid(): number | undefined {
    return this.#tree?.pid;
  }

  /** File with the log, when the router is ours. */
  get logFile(): string | undefined {
    return this.#tree?.logFile;
  }

  /** Resolves, never rejects, when the router has ended; `undefined` when it is not ours. */
  get exited(): Promise<ProcessExit> | undefined {
    return this.#tree?.exited;
  }

  /** The last lines of the log, when the router is ours; at most `count`, default 200. */
  logTail(count?: number): string {
    return this.#tree?.logTail(count) ?? "";
  }

  /** Whether there is a server that gets requests. */
  isReady(options: RouterCallOptions = {}): Promise<boolean> {
    return this.#api.isReady(options);
  }

  /** The servers that the router knows. */
  workers(options: RouterCallOptions = {}): Promise<RouterWorker[]> {
    return this.#api.workers(options);
  }

  /**
   * Adds a server and waits until it gets requests. One that is there already is only waited for.
   * One that does not become healthy in time is taken out again, since the router would go on trying.
   *
   * @param options `apiKey` of the server; `timeoutMs`, default 120,000.
   * @throws {TimeoutError} When the server does not become healthy in time.
   * @throws {UnreachableError} When the router does not answer.
   */
  async addWorker(
    url: string,
    options: RouterCallOptions & { apiKey?: string | undefined } = {},
  ): Promise<RouterWorker> {
    const { timeoutMs = 120_000, signal, apiKey } = options;
    const wanted = normalUrl(url);
    let id: string | undefined;
    try {
      return await withDeadline({
        phase: `add ${wanted} to the router`,
        timeoutMs,
        peer: wanted,
        hint: "Is the server running, and can the router's machine reach it?",
        signal,
      }, async (inner) => {
        id = await this.#api.add({ url: wanted, apiKey }, { signal: inner, timeoutMs });
        return await this.#untilHealthy(wanted, inner);
      });
    } catch (error) {
      // The caller's error counts, not that of the clean-up.
      if (id !== undefined) await this.#api.remove(id).catch(() => {});
      throw error;
    }
  }

  /**
   * Takes a server out and waits until it gets no more requests; those that run go on. One that the
   * router does not know is no error.
   *
   * @param worker Address or id of the server.
   * @throws {TimeoutError} When the router keeps it.
   */
  async removeWorker(worker: string, options: RouterCallOptions = {}): Promise<void> {
    const { timeoutMs = 30_000, signal } = options;
    const name = canonicalUrl(worker);
    const isIt = (known: RouterWorker) => known.id === worker || canonicalUrl(known.url) === name;
    await withDeadline({
      phase: `remove ${name} from the router`,
      timeoutMs,
      peer: this.url,
      signal,
    }, async (inner) => {
      for (;;) {
        const found = (await this.workers({ signal: inner })).filter(isIt);
        if (found.length === 0) return;
        for (const { id } of found) await this.#api.remove(id, { signal: inner });
        await sleep(pollMs, { signal: inner });
      }
    });
  }

  /** Ends the router when it is ours; then its ports are free. Safe to call twice. */
  async stop(options: { graceMs?: number | undefined } = {}): Promise<void> {
    if (this.#tree === undefined) return;
    await this.#tree.stop(options);
    await (this.#portsFree ??= this.#untilPortsFree());
  }

  async #untilPortsFree(): Promise<void> {
    for (const address of [this.url, this.metricsUrl!]) {
      const { port } = new URL(address);
      await untilPortFree(Number(port), { hostname: hostOf(address) });
    }
  }

  /** The same as {@linkcode SGLangRouter.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #untilHealthy(url: string, signal: AbortSignal): Promise<RouterWorker> {
    for (;;) {
      const workers = await this.workers({ signal });
      const worker = workers.find((known) => known.url === url && known.isHealthy);
      if (worker !== undefined) return worker;
      await sleep(pollMs, { signal });
    }
  }
}

/** Those of `urls` that get no requests yet. */
async function missingOf(
  api: RouterApi,
  urls: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const known = await api.workers({ signal });
  const healthy = new Set(known.filter((worker) => worker.isHealthy).map((worker) => worker.url));
  return urls.map(normalUrl).filter((url) => !healthy.has(url));
}

interface PortCheck {
  readonly port: number;
  readonly prometheusPort: number;
  readonly given: SGLangRouterOptions;
  readonly host: string;
}

function checkPorts({ port, prometheusPort, given, host }: PortCheck): void {
  if (port === prometheusPort) {
    throw new ValidationError(`\`port\` and \`prometheusPort\` are both ${port}`);
  }
  for (const asked of [given.port, given.prometheusPort]) {
    if (asked === undefined || isPortFree(asked, host)) continue;
    throw new StateError(
      `Port ${asked} is taken by another program: stop it, choose another port, or leave the port ` +
        "out, so that a free one is chosen",
    );
  }
}
