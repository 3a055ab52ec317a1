import { CrashedError } from "../errors.ts";
import { SGLangRouter, type SGLangRouterOptions } from "../router/mod.ts";
import {
  assignGpus,
  makeSglangServer,
  type ProcessExit,
  type SglangServer,
  type SglangServerOptions,
} from "../server/mod.ts";
import { ValidationError } from "../errors.ts";
import { engineOptionKeys, type FromPretrainedOptions, type RouterTarget } from "./options.ts";

/** Servers that were started, and the router in front of them. */
export interface ManagedServers extends AsyncDisposable {
  readonly target: readonly string[] | RouterTarget;
  readonly exits: ReadonlyMap<string, Promise<CrashedError>>;
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
  await using stack = new AsyncDisposableStack();
  const servers = await launchReplicas(serverOptions(model, options, numReplicas), signal);
  stack.defer(() => stopAll(servers));
  const urls = servers.map(({ url }) => url);
  const exits = new Map(servers.map((server) => [server.url, crashOf(server)]));
  const routerOptions = options.router ?? numReplicas > 1;
  if (routerOptions === false) return owning(stack.move(), { target: urls, exits });
  const router = stack.use(
    await SGLangRouter.launch(
      {
        apiKey: options.apiKey,
        signal,
        ...(routerOptions === true ? {} : routerOptions),
        workers: urls,
      } satisfies SGLangRouterOptions,
    ),
  );
  return owning(stack.move(), { target: { router: router.url, workers: urls }, exits });
}

function owning(
  stack: AsyncDisposableStack,
  parts: Pick<ManagedServers, "target" | "exits">,
): ManagedServers {
  return { ...parts, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function launchReplicas(
  replicas: readonly SglangServerOptions[],
  signal: AbortSignal | undefined,
): Promise<SglangServer[]> {
  const giveUp = new AbortController();
  const either = signal === undefined ? giveUp.signal : AbortSignal.any([signal, giveUp.signal]);
  let firstError: unknown;
  const launches = replicas.map(async (replica) => {
    try {
      return await makeSglangServer({ ...replica, signal: either });
    } catch (error) {
      firstError ??= error;
      giveUp.abort(error);
      throw error;
    }
  });
  const settled = await Promise.allSettled(launches);
  const servers = settled.flatMap((launch) => launch.status === "fulfilled" ? [launch.value] : []);
  if (servers.length === replicas.length) return servers;
  await stopAll(servers);
  throw firstError;
}

async function stopAll(servers: readonly SglangServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.stop()));
}

/** The options of each replica: those of the engine left out, GPUs handed out. */
function serverOptions(
  model: string,
  options: FromPretrainedOptions,
  numReplicas: number,
): SglangServerOptions[] {
  const notForServers = new Set<string>([...engineOptionKeys, "numReplicas", "router", "gpus"]);
  const shared = Object.fromEntries(
    Object.entries(options).filter(([name]) => !notForServers.has(name)),
  );
  const { apiKey, adminApiKey, gpus, device } = options;
  const needsAssignment = device !== "cpu" && (gpus !== undefined || numReplicas > 1);
  const assigned = needsAssignment
    ? assignGpus({ ...shared, replicas: numReplicas, gpus })
    : undefined;
  return Array.from({ length: numReplicas }, (_, i): SglangServerOptions => ({
    ...shared,
    model,
    apiKey,
    adminApiKey,
    gpus: assigned?.[i],
  }));
}

/** Resolves when the server ends although it should run; never when it was told to end. */
async function crashOf(server: SglangServer): Promise<CrashedError> {
  const exit = await server.exited;
  if (exit.requested) return await new Promise<never>(() => {});
  return crashedError(server, exit);
}

function crashedError(server: SglangServer, exit: ProcessExit): CrashedError {
  const { exitCode, signal, logTail } = exit;
  const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`;
  const lines = logTail.split("\n").slice(-20).join("\n");
  return new CrashedError(
    `SGLang server ${server.url} ended ${how}. Its last lines:\n${lines}`,
    { exitCode, signal, logTail },
  );
}
