import { capabilitiesOf, isDeterministic } from "../client/capabilities.ts";
import { SGLangClient } from "../client/client.ts";
import { CLIENT_OPTION_NAMES } from "../client/options.ts";
import { onlyNamed } from "../internal/option_names.ts";
import { type CrashedError, HttpError, ValidationError } from "../errors.ts";
import { SGLangRouter } from "../router/mod.ts";
import type { ConnectOptions, ConnectTarget, RouterTarget } from "./options.ts";
import type { ServerInfo } from "../client/types.ts";
import type { WorkerFacts } from "./member.ts";

/** How long the aborts of a request that was left early may take. */
const ABANDON_TIMEOUT_MS = 5_000;

/** The servers of an engine, asked and found healthy. */
export interface ConnectedServers {
  readonly workers: readonly WorkerFacts[];
  readonly router: SGLangClient | undefined;
  /** The router's own interface. */
  readonly routerControl: SGLangRouter | undefined;
  /** Whether the servers are those that the router told. */
  readonly followsRouter: boolean | undefined;
}

/** A connection that can grow. */
export interface Connection extends ConnectedServers {
  /** Waits for aborts that are on their way, and closes all connections. */
  readonly clients: AsyncDisposable;
  /** Asks one more server. */
  readonly open: (
    url: string,
    more: { signal?: AbortSignal | undefined; exited?: Promise<CrashedError> | undefined },
  ) => Promise<WorkerFacts>;
  /** Says which servers there are, for aborts that go to all. */
  readonly showPresent: (members: readonly { readonly client: SGLangClient }[]) => void;
}

/** By address: how a managed server ended although it should run. */
export type ExitPromises = ReadonlyMap<string, Promise<CrashedError>>;

/**
 * Connects to every server: `/health`, `/server_info`, `/model_info`, in that order. A single
 * address may be a router's.
 */
export async function connectServers(
  target: ConnectTarget,
  options: ConnectOptions,
  exits: ExitPromises = new Map(),
): Promise<Connection> {
  const clients = new AsyncDisposableStack();
  let present: readonly { readonly client: SGLangClient }[] = [];
  const context: ConnectContext = { options, clients, exits, present: () => present };
  const connect = (): Promise<ConnectedServers> => {
    if (typeof target === "string") return connectOne(target, context);
    if (!isRouterTarget(target)) return connectMany(target, context);
    return connectRouter(target, context);
  };
  try {
    const connected = await connect();
    present = connected.workers;
    return {
      ...connected,
      clients,
      open: (url, more) =>
        openWorker(url, {
          ...context,
          options: { ...options, signal: more.signal },
          exits: more.exited === undefined ? exits : new Map([[url, more.exited]]),
        }),
      showPresent: (members) => present = members,
    };
  } catch (error) {
    await clients.disposeAsync();
    throw error;
  }
}

/** What is needed to ask a server what it is. */
export interface ConnectContext {
  readonly options: ConnectOptions;
  /** Every client that is made, to be closed. */
  readonly clients: AsyncDisposableStack;
  readonly exits: ExitPromises;
  /** The servers that there are now. */
  readonly present: () => readonly { readonly client: SGLangClient }[];
}

async function connectOne(url: string, context: ConnectContext): Promise<ConnectedServers> {
  try {
    return await connectMany([url], context);
  } catch (error) {
    // A router is healthy too, but has no /server_info of its own.
    const mayBeRouter = error instanceof HttpError && error.status === 404 &&
      error.endpoint === "GET /server_info";
    if (!mayBeRouter) throw error;
    return await connectRouter({ router: url }, context);
  }
}

async function connectMany(
  urls: readonly string[],
  context: ConnectContext,
): Promise<ConnectedServers> {
  if (urls.length === 0) throw new ValidationError("connect() got an empty list of addresses");
  if (new Set(urls).size !== urls.length) {
    throw new ValidationError(`connect() got an address twice: ${urls.join(", ")}`);
  }
  const workers = await Promise.all(urls.map((url) => openWorker(url, context)));
  checkSameModel(workers);
  return { workers, router: undefined, routerControl: undefined, followsRouter: undefined };
}

async function connectRouter(
  target: RouterTarget,
  context: ConnectContext,
): Promise<ConnectedServers> {
  const { options } = context;
  const routerControl = SGLangRouter.connect(target.router, {
    apiKey: options.routerApiKey ?? options.apiKey,
    proxy: options.proxy,
    caCerts: options.caCerts,
  });
  const urls = target.workers ??
    (await routerControl.workers({ signal: options.signal })).map(({ url }) => url);
  if (urls.length === 0) {
    throw new ValidationError(`Router ${target.router} has no workers: add some, or give workers`);
  }
  const { workers } = await connectMany(urls, context);
  const [first] = workers;
  const router = context.clients.use(
    new SGLangClient({
      ...onlyNamed(options, CLIENT_OPTION_NAMES),
      url: target.router,
      apiKey: options.routerApiKey ?? options.apiKey,
      // The router cannot be asked for these, and knows no abort.
      vocabSize: await first!.client.vocabSize({ signal: options.signal }) ?? undefined,
      capabilities: await first!.client.capabilities({ signal: options.signal }),
      abandon: async (rid) => {
        await Promise.allSettled(
          context.present().map(({ client }) =>
            client.abort([rid], { timeoutMs: ABANDON_TIMEOUT_MS })
          ),
        );
      },
    }),
  );
  await router.checkHealth({ signal: options.signal });
  const followsRouter = target.workers === undefined ? true : undefined;
  return { workers, router, routerControl, followsRouter };
}

/** Asks a server whether it is healthy and what it is. */
export async function openWorker(url: string, context: ConnectContext): Promise<WorkerFacts> {
  const { options, clients, exits } = context;
  const client = clients.use(new SGLangClient({ ...onlyNamed(options, CLIENT_OPTION_NAMES), url }));
  const { signal } = options;
  await client.checkHealth({ signal });
  const info = await client.serverInfo({ signal });
  const model = await client.modelInfo({ signal });
  return {
    url: client.url,
    client,
    tpSize: info.tpSize,
    dpSize: info.dpSize,
    deterministic: isDeterministic(info.raw),
    grammarBackend: capabilitiesOf(info.raw).survivesGrammars ? grammarBackendOf(info.raw) : "none",
    version: info.version,
    modelPath: model.modelPath,
    architectures: model.architectures,
    maxRunningRequests: info.maxRunningRequests,
    maxQueuedRequests: queueLimit(info.raw),
    exited: exits.get(url),
    weightVersion: model.weightVersion,
    identity: identityOf(info),
  };
}

function grammarBackendOf(raw: Readonly<Record<string, unknown>>): string | null {
  const { grammar_backend: name } = raw;
  return typeof name === "string" ? name : null;
}

function queueLimit(raw: Readonly<Record<string, unknown>>): number | null {
  const { max_queued_requests: limit } = raw;
  return typeof limit === "number" && limit > 0 ? limit : null;
}

/**
 * What differs between two starts of a server, as far as it tells: 0.5.23 has the time that its start
 * took, all have a seed that is drawn again unless the operator fixed it.
 */
export function identityOf({ raw, version }: ServerInfo): string {
  return JSON.stringify([version, raw.startup_time, raw.random_seed]);
}

function checkSameModel(workers: readonly WorkerFacts[]): void {
  const [first, ...others] = workers;
  for (const other of others) {
    if (other.architectures.join() === first!.architectures.join()) continue;
    throw new ValidationError(
      `The servers have different models: ${first!.architectures} at ${first!.url}, ` +
        `${other.architectures} at ${other.url}`,
    );
  }
}

function isRouterTarget(target: ConnectTarget): target is RouterTarget {
  return typeof target === "object" && "router" in target;
}
