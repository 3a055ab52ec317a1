import { lastLines } from "../internal/last_lines.ts";
import { onlyNamed } from "../internal/option_names.ts";
import { withoutTrailingSlashes } from "../internal/trailing_slashes.ts";
import { GPU_ASSIGNMENT_NAMES } from "../server/gpus.ts";
import { CrashedError, ValidationError } from "../errors.ts";
import type { SGLangRouterOptions } from "../router/mod.ts";
import {
  assignGpus,
  type ProcessExit,
  type SGLangServer,
  type SGLangServerOptions,
} from "../server/mod.ts";
import { ManagedRouter } from "./managed_router.ts";
import { CurrentServers, Replica } from "./replica.ts";
import {
  ENGINE_OPTION_NAMES,
  type FromPretrainedOptions,
  MANAGED_OPTION_NAMES,
  type RouterTarget,
} from "./options.ts";

/** Servers that were started, and the router in front of them. */
export interface ManagedServers extends AsyncDisposable {
  readonly target: readonly string[] | RouterTarget;
  readonly exits: ReadonlyMap<string, Promise<CrashedError>>;
  /** The servers, which can be started again. */
  readonly replicas: readonly Replica[];
  /** The router, when there is one. */
  readonly router: ManagedRouter | undefined;
  /** The process that an address has now, or had last. */
  readonly serverAt: (url: string) => SGLangServer | undefined;
}

/**
 * Starts the replicas side by side and the router in front of them. When one fails, those already
 * started are ended before the error is thrown.
 */
export async function launchServers(
  model: string,
  options: FromPretrainedOptions,
): Promise<ManagedServers> {
  const { numReplicas = 1, signal } = options;
  if (!Number.isSafeInteger(numReplicas) || numReplicas < 1) {
    throw new ValidationError(`numReplicas must be an integer of at least 1, got ${numReplicas}`);
  }
  const routerOptions = options.router ?? numReplicas > 1;
  if (routerOptions === false && numReplicas > 1 && options.port !== undefined) {
    throw new ValidationError("port needs the router, or a single server");
  }
  await using stack = new AsyncDisposableStack();
  const current = new CurrentServers();
  stack.defer(() => current.stop());
  const all = serverOptions(model, options, numReplicas);
  const replicas = await launchReplicas(all, current, signal);
  const urls = replicas.map(({ url }) => url);
  const exits = new Map(replicas.map((replica) => [replica.url, crashOf(replica)]));
  const parts = { exits, replicas, serverAt: (url: string) => current.at(url) };
  if (routerOptions === false) {
    return owning(stack.move(), { ...parts, target: urls, router: undefined });
  }
  const router = stack.use(
    await ManagedRouter.launch(
      {
        apiKey: options.apiKey,
        signal,
        port: options.port,
        logFile: logPath(options, "router"),
        ...(routerOptions === true ? {} : routerOptions),
        workers: urls,
      } satisfies SGLangRouterOptions,
    ),
  );
  return owning(stack.move(), { ...parts, target: { router: router.url, workers: urls }, router });
}

function owning(
  stack: AsyncDisposableStack,
  parts: Omit<ManagedServers, typeof Symbol.asyncDispose>,
): ManagedServers {
  return { ...parts, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function launchReplicas(
  all: readonly SGLangServerOptions[],
  current: CurrentServers,
  signal: AbortSignal | undefined,
): Promise<Replica[]> {
  const giveUp = new AbortController();
  const either = signal === undefined ? giveUp.signal : AbortSignal.any([signal, giveUp.signal]);
  let firstError: unknown;
  const launches = all.map(async (options) => {
    try {
      return await Replica.start({ ...options, signal: either }, current);
    } catch (error) {
      firstError ??= error;
      giveUp.abort(error);
      throw error;
    }
  });
  const settled = await Promise.allSettled(launches);
  const replicas = settled.flatMap((launch) => launch.status === "fulfilled" ? [launch.value] : []);
  // Those that were started end with the stack of who asked.
  if (replicas.length < all.length) throw firstError;
  return replicas;
}

function logPath({ logFolder }: FromPretrainedOptions, name: string): string | undefined {
  return logFolder === undefined ? undefined : `${withoutTrailingSlashes(logFolder)}/${name}.log`;
}

/** The options of each replica: those of the engine left out, GPUs handed out. */
function serverOptions(
  model: string,
  options: FromPretrainedOptions,
  numReplicas: number,
): SGLangServerOptions[] {
  const notForServers = new Set<string>([
    ...Object.keys(ENGINE_OPTION_NAMES),
    ...Object.keys(MANAGED_OPTION_NAMES),
    "gpus",
  ]);
  const shared = Object.fromEntries(
    Object.entries(options).filter(([name]) => !notForServers.has(name)),
  );
  const { apiKey, adminApiKey, gpus, device } = options;
  const needsAssignment = device !== "cpu" && (gpus !== undefined || numReplicas > 1);
  const assigned = needsAssignment
    ? assignGpus({ ...onlyNamed(shared, GPU_ASSIGNMENT_NAMES), replicas: numReplicas, gpus })
    : undefined;
  return Array.from({ length: numReplicas }, (_, i): SGLangServerOptions => ({
    ...shared,
    model,
    apiKey,
    adminApiKey,
    port: (options.router ?? numReplicas > 1) === false ? options.port : undefined,
    gpus: assigned?.[i],
    logFile: logPath(options, `server-${i}`) ?? options.logFile,
  }));
}

/** Resolves when the server ends although it should run; never when it was told to end. */
async function crashOf(server: Replica): Promise<CrashedError> {
  const exit = await server.exited;
  if (exit.requested) return await new Promise<never>(() => {});
  return crashedError(server, exit);
}

function crashedError(server: Replica, exit: ProcessExit): CrashedError {
  const { exitCode, signal, logTail } = exit;
  const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`;
  return new CrashedError(
    `SGLang server ${server.url} ended ${how}. ${lastLines(logTail, 20)}`,
    { exitCode, signal, logTail },
  );
}

/** Servers and router that an engine started. */
export interface ManagedFleet {
  /** Each server, with id and log of the process that it has now, or had last. */
  readonly servers: readonly {
    readonly url: string;
    readonly pid: number | undefined;
    readonly logFile: string | undefined;
  }[];
  /** The router, when there is one. */
  readonly router: {
    readonly url: string;
    readonly pid: number | undefined;
    readonly logFile: string | undefined;
    /** Where Prometheus finds its metrics. */
    readonly metricsUrl: string | undefined;
  } | undefined;
  /** Resolves when the present process of the router has ended. */
  readonly routerExited: Promise<ProcessExit> | undefined;
}

/** What an engine tells of its servers and router. */
export function managedFleet(owned: ManagedServers): ManagedFleet {
  const { router } = owned;
  return {
    servers: owned.replicas.map(({ url }) => {
      const server = owned.serverAt(url);
      return { url, pid: server?.pid, logFile: server?.logFile };
    }),
    router: router && {
      url: router.url,
      pid: router.pid,
      logFile: router.logFile,
      metricsUrl: router.metricsUrl,
    },
    routerExited: router?.exited,
  };
}
