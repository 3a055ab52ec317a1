import { StateError, ValidationError } from "../errors.ts";
import { HttpPool } from "../http/mod.ts";
import { systemClock } from "../internal/clock.ts";
import { hostOf, inBrackets } from "../internal/hostname.ts";
import { observed } from "../internal/observe.ts";
import {
  findPython,
  isPortFree,
  moduleCommand,
  type PortLease,
  type ProcessExit,
  ProcessTree,
  reservePorts,
  untilPortFree,
  waitUntilReady,
} from "../process/mod.ts";
import { checkServerOptions, launchArgs, launchEnv } from "./command.ts";
import type { SGLangServerOptions } from "./options.ts";

/** A running SGLang server that we started and own. It ends with this Deno process. */
export class SGLangServer implements AsyncDisposable {
  /** Address, such as `http://127.0.0.1:12000`. */
  readonly url: string;
  /** HTTP port. */
  readonly port: number;
  /** Tensor-parallel ranks. */
  readonly tpSize: number;
  /** Data-parallel copies inside the server. */
  readonly dpSize: number;
  /** Process id of the server's main process. */
  readonly pid: number;
  /** File with the log. */
  readonly logFile: string;
  /**
   * Resolves, never rejects, when the server has ended, with how. It does not keep Deno running;
   * {@linkcode SGLangServer.wait} does.
   */
  readonly exited: Promise<ProcessExit>;
  readonly #tree: ProcessTree;
  #portFree: Promise<void> | undefined;

  /** Made by {@linkcode makeSGLangServer}. */
  constructor(
    parts: { tree: ProcessTree; url: string; port: number; tpSize: number; dpSize: number },
  ) {
    this.#tree = parts.tree;
    this.url = parts.url;
    this.port = parts.port;
    this.tpSize = parts.tpSize;
    this.dpSize = parts.dpSize;
    this.pid = parts.tree.pid;
    this.logFile = parts.tree.logFile;
    this.exited = parts.tree.exited;
  }

  /** The last lines of the log; at most `count`, default 200. */
  logTail(count?: number): string {
    return this.#tree.logTail(count);
  }

  /** Waits until the server has ended, and keeps Deno running meanwhile. */
  wait(options: { signal?: AbortSignal | undefined } = {}): Promise<ProcessExit> {
    return this.#tree.wait(options);
  }

  /**
   * Ends the server: SIGTERM, after `graceMs` SIGKILL to all its processes. Then its port is free for
   * the next. Safe to call twice.
   *
   * @throws {TimeoutError} When a process of the server cannot be ended.
   */
  async stop(options: { graceMs?: number | undefined } = {}): Promise<ProcessExit> {
    const exit = await this.#tree.stop(options);
    await (this.#portFree ??= untilPortFree(this.port, { hostname: hostOf(this.url) }));
    return exit;
  }

  /** The same as {@linkcode SGLangServer.stop}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/**
 * Starts one SGLang server and waits until it is ready: its process runs and `/health` says 200.
 *
 * Needs `--allow-run=<python>` and `--allow-net=<host>`; with `--allow-env=SGLANG_PYTHON,VIRTUAL_ENV`
 * the Python is found by these variables.
 *
 * @example
 * ```ts
 * import { makeSGLangServer } from "@sglang-rl/sglang-rl";
 *
 * await using server = await makeSGLangServer({ model: "Qwen/Qwen2.5-0.5B-Instruct", tpSize: 1 });
 * console.log(server.url);
 * ```
 *
 * @throws {ValidationError} When an option is wrong; nothing is started.
 * @throws {StateError} When a port that was asked for is taken.
 * @throws {CrashedError} When the server ends before it is ready, with its last lines.
 * @throws {TimeoutError} When it is not ready in time; it is gone by then.
 * @throws {AbortedError} When `signal` fires; it is gone by then.
 * @throws {PermissionError} When Deno may not run Python, listen or connect.
 */
export async function makeSGLangServer(options: SGLangServerOptions): Promise<SGLangServer> {
  checkServerOptions(options);
  const python = findPython(options.python, ["SGLANG_PYTHON"]);
  const lease = leasePorts(options);
  try {
    const { ports, release } = lease;
    const facts = { model: options.model, port: ports.port };
    const server = await observed(
      "server.start",
      undefined,
      facts,
      () => launch({ options, python, ports, release }),
    );
    server.exited.finally(lease.dispose);
    return server;
  } catch (error) {
    lease.dispose();
    throw error;
  }
}

interface Launch {
  readonly options: SGLangServerOptions;
  readonly python: string;
  readonly ports: { port: number; ncclPort: number };
  readonly release: () => void;
}

async function launch({ options, python, ports, release }: Launch): Promise<SGLangServer> {
  const { host = "127.0.0.1", signal } = options;
  const command = moduleCommand("sglang.launch_server", launchArgs(options, ports));
  const name = `SGLang server on port ${ports.port}`;
  release();
  const tree = await ProcessTree.launch({
    name,
    command: [python, ...command.args],
    input: command.input,
    keeperPython: python,
    env: launchEnv(options),
    prependPath: pythonFolder(python),
    logFile: options.logFile,
    onLine: options.onLog,
    secrets: command.secrets,
    stopGraceMs: options.stopGraceMs,
  });
  const url = `http://${reachable(host)}:${ports.port}`;
  using http = new HttpPool({ url, clock: systemClock });
  await waitUntilReady({
    name,
    tree,
    address: url.slice("http://".length),
    probe: (probeSignal) => isHealthy(http, probeSignal),
    timeoutMs: options.readyTimeoutMs ?? 600_000,
    intervalMs: 500,
    onProgress: options.onProgress,
    signal,
  });
  const { tpSize = 1, dpSize = 1 } = options;
  return new SGLangServer({ tree, url, port: ports.port, tpSize, dpSize });
}

async function isHealthy(http: HttpPool, signal: AbortSignal): Promise<boolean> {
  using answer = await http.send({ method: "GET", path: "/health" }, signal);
  return answer.head.status === 200;
}

/** SGLang compiles kernels with tools that live beside its Python. */
function pythonFolder(python: string): string[] {
  const end = python.lastIndexOf("/");
  return end <= 0 ? [] : [python.slice(0, end)];
}

/** Where a server that listens on all addresses is reached from this machine. */
function reachable(host: string): string {
  if (host === "0.0.0.0") return "127.0.0.1";
  if (host === "::") return "[::1]";
  return inBrackets(host);
}

interface Lease {
  readonly ports: { port: number; ncclPort: number };
  readonly release: () => void;
  readonly dispose: () => void;
}

/** Ports 233 and up from the HTTP port serve data-parallel attention, one for each rank. */
const dpAttentionSpan = 320;

function leasePorts(options: SGLangServerOptions): Lease {
  const hostname = options.host === "0.0.0.0" ? "127.0.0.1" : options.host ?? "127.0.0.1";
  const { port, ncclPort } = options;
  if (port !== undefined && port === ncclPort) {
    throw new ValidationError(`\`port\` and \`ncclPort\` are both ${port}`);
  }
  for (const given of [port, ncclPort]) {
    if (given === undefined || isPortFree(given, hostname)) continue;
    throw new StateError(
      `Port ${given} is taken by another program: stop it, choose another port, or leave the port ` +
        "out, so that a free one is chosen",
    );
  }
  if (port !== undefined && ncclPort !== undefined) {
    return { ports: { port, ncclPort }, release() {}, dispose() {} };
  }
  const span = options.enableDpAttention ? dpAttentionSpan : undefined;
  const lease: PortLease = reservePorts({ count: 2, hostname, span });
  const [first, second] = lease.ports as [number, number];
  return {
    ports: { port: port ?? first, ncclPort: ncclPort ?? second },
    release: () => lease.release(),
    dispose: () => lease[Symbol.dispose](),
  };
}
