import { SGLangClient } from "../client/client.ts";
import { createPool } from "../client/http.ts";
import { type CrashedError, HttpError, ValidationError } from "../errors.ts";
import { SGLangRouter } from "../router/mod.ts";
import type { ConnectOptions, ConnectTarget, RouterTarget } from "./options.ts";
import type { SGLangWorker } from "./workers.ts";

/** How long the aborts of a request that was left early may take. */
const ABANDON_TIMEOUT_MS = 5_000;

/** The servers of an engine, asked and found healthy. */
export interface Connection {
  readonly workers: readonly SGLangWorker[];
  readonly router: SGLangClient | undefined;
  /** The connection pool that all clients share. */
  readonly httpClient: Deno.HttpClient;
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
  const httpClient = createPool();
  const context = { options, httpClient, exits };
  try {
    if (typeof target === "string") return await connectOne(target, context);
    if (!isRouterTarget(target)) return await connectMany(target, context);
    return await connectRouter(target, context);
  } catch (error) {
    httpClient.close();
    throw error;
  }
}

interface ConnectContext {
  readonly options: ConnectOptions;
  readonly httpClient: Deno.HttpClient;
  readonly exits: ExitPromises;
}

async function connectOne(url: string, context: ConnectContext): Promise<Connection> {
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
): Promise<Connection> {
  if (urls.length === 0) throw new ValidationError("connect() got an empty list of addresses");
  if (new Set(urls).size !== urls.length) {
    throw new ValidationError(`connect() got an address twice: ${urls.join(", ")}`);
  }
  const workers = await Promise.all(urls.map((url) => openWorker(url, context)));
  checkSameModel(workers);
  return { workers, router: undefined, httpClient: context.httpClient };
}

async function connectRouter(target: RouterTarget, context: ConnectContext): Promise<Connection> {
  const urls = target.workers ?? await listWorkers(target.router, context);
  if (urls.length === 0) {
    throw new ValidationError(`Router ${target.router} has no workers: add some, or give workers`);
  }
  const { workers, httpClient } = await connectMany(urls, context);
  const { options } = context;
  const [first] = workers;
  const router = new SGLangClient({
    ...options,
    url: target.router,
    apiKey: options.routerApiKey ?? options.apiKey,
    httpClient,
    // The router cannot be asked for these, and knows no abort.
    vocabSize: await first!.client.vocabSize(options) ?? undefined,
    capabilities: await first!.client.capabilities(options),
    abandon: async (rid) => {
      await Promise.allSettled(
        workers.map(({ client }) => client.abort([rid], { timeoutMs: ABANDON_TIMEOUT_MS })),
      );
    },
  });
  await router.checkHealth(options);
  return { workers, router, httpClient };
}

async function openWorker(url: string, context: ConnectContext): Promise<SGLangWorker> {
  const { options, httpClient, exits } = context;
  const client = new SGLangClient({ ...options, url, httpClient });
  const { signal } = options;
  await client.checkHealth({ signal });
  const info = await client.serverInfo({ signal });
  const model = await client.modelInfo({ signal });
  return {
    url: client.url,
    client,
    tpSize: info.tpSize,
    dpSize: info.dpSize,
    version: info.version,
    modelPath: model.modelPath,
    architectures: model.architectures,
    maxRunningRequests: info.maxRunningRequests,
    maxQueuedRequests: queueLimit(info.raw),
    exited: exits.get(url),
  };
}

function queueLimit(raw: Readonly<Record<string, unknown>>): number | null {
  const { max_queued_requests: limit } = raw;
  return typeof limit === "number" && limit > 0 ? limit : null;
}

/** Addresses of the servers behind a router. */
async function listWorkers(
  routerUrl: string,
  { options }: ConnectContext,
): Promise<readonly string[]> {
  const apiKey = options.routerApiKey ?? options.apiKey;
  const router = SGLangRouter.connect(routerUrl, { apiKey });
  const workers = await router.workers({ signal: options.signal });
  return workers.map(({ url }) => url);
}

function checkSameModel(workers: readonly SGLangWorker[]): void {
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
