/** The servers that `serve` starts: an engine, its supervisor and the control endpoint. */
import { AsyncSGLang, type FromPretrainedOptions } from "../../engine/mod.ts";
import { CrashedError, StateError } from "../../errors.ts";
import { FleetControl, type FleetEvent, type SyncedFleet } from "../../fleet/mod.ts";
import { lastLines } from "../../internal/last_lines.ts";
import { safetensors } from "../../weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../weights/mod.ts";
import { defaultControlPort } from "../control_client.ts";
import type { CliIo } from "../io.ts";
import { inFlags } from "../option_words.ts";

/** What `serve` tells of what it started. */
export interface ToldFleet {
  /** Where to send requests. */
  readonly url: string;
  readonly servers: readonly string[];
  readonly router: string | null;
  /** Where Prometheus finds the router's metrics. */
  readonly routerMetrics: string | null;
  /** Where `drain`, `restart`, `logs` and `sync` of this machine reach it. */
  readonly control: string | null;
  readonly logs: readonly { readonly server: string; readonly file: string }[];
}

/** Servers that a command started; they end with it. */
export interface Started extends AsyncDisposable {
  readonly told: ToldFleet;
  /** Resolves to what went wrong when serving cannot go on. */
  readonly failed: Promise<Error>;
}

/** What to start. */
export interface StartOptions {
  readonly model: string;
  readonly launch: FromPretrainedOptions;
  readonly io: CliIo;
  readonly isSupervised: boolean;
  readonly minHealthy: number;
  readonly restartLimit: number;
  readonly controlPort: number | undefined;
}

/** The last sync that this process was told of, and what its files looked like then. */
interface LastSync {
  last: {
    readonly version: string;
    readonly checkpoint: string;
    readonly fingerprint: string | undefined;
  } | undefined;
}

/** Starts the servers, and the router in front of several. */
export async function startFleet(options: StartOptions): Promise<Started> {
  const { model, launch, io, isSupervised, minHealthy, restartLimit } = options;
  const failed = Promise.withResolvers<Error>();
  await using stack = new AsyncDisposableStack();
  const synced: LastSync = { last: undefined };
  const made: { engine?: AsyncSGLang } = {};
  const onEvent = (event: FleetEvent) => {
    const { servers = [], router } = made.engine?.supervisor ?? {};
    const isRouter = event.url === router?.url;
    if (event.from !== null) io.err(`${isRouter ? "router " : ""}${event.url} ${told(event)}\n`);
    if (event.to !== "retired") return;
    if (isRouter) {
      failed.resolve(new StateError(`The router cannot be kept alive: ${told(event)}`));
    } else if (servers.every(({ state }) => state === "retired")) {
      failed.resolve(new StateError(`No server is left: ${event.url} ${told(event)}`));
    }
  };
  const engine = stack.use(
    await AsyncSGLang.fromPretrained(model, {
      ...launch,
      supervise: isSupervised && {
        minHealthy,
        restartLimit,
        onEvent,
        refit: (url, { signal }) => refit(made.engine!, { url, last: synced.last, launch, signal }),
      },
    }),
  );
  made.engine = engine;
  if (!isSupervised) {
    const crashes = engine.workers.flatMap(({ exited }) => exited === undefined ? [] : [exited]);
    Promise.race(crashes).then(failed.resolve);
    engine.managed?.routerExited?.then((exit) => {
      if (!exit.requested) failed.resolve(routerDied(exit));
    });
  }
  const control = startControl(engine, options, synced);
  if (control !== undefined) stack.use(control);
  const owned = stack.move();
  return {
    told: toldOf(engine, control),
    failed: failed.promise,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function told({ kind, to, reason }: FleetEvent): string {
  const words = { state: to, refit_failed: "was not refitted", waits: "waits" } as const;
  const what = kind === "below_minimum" ? "too few" : words[kind];
  return `${what}: ${inFlags(reason, "serve")}`;
}

function routerDied(
  { exitCode, signal, logTail }: {
    exitCode: number | null;
    signal: string | null;
    logTail: string;
  },
): CrashedError {
  const how = signal === null ? `with exit code ${exitCode}` : `by ${signal}`;
  return new CrashedError(`The router ended ${how}. ${lastLines(logTail, 20)}`, {
    exitCode,
    signal,
    logTail,
  });
}

function toldOf(engine: AsyncSGLang, control: FleetControl | undefined): ToldFleet {
  const { servers = [], router } = engine.managed ?? {};
  const logs = servers.map(({ url, logFile }) => ({ server: url, file: logFile ?? "" }));
  return {
    url: engine.url,
    servers: engine.workers.map(({ url }) => url),
    router: router?.url ?? null,
    routerMetrics: router?.metricsUrl ?? null,
    control: control?.url ?? null,
    logs: router?.logFile === undefined
      ? logs
      : [...logs, { server: router.url, file: router.logFile }],
  };
}

/** It as lines for people; the first is what programs look for. */
export function shown({ told }: Started): string {
  const { url, servers, router, routerMetrics, control, logs } = told;
  const logOf = (address: string) => {
    const log = logs.find(({ server }) => server === address);
    return log === undefined ? "" : `, log ${log.file}`;
  };
  return [
    `Ready at ${url}; Ctrl-C ends it`,
    ...servers.map((server) => `  server ${server}${logOf(server)}`),
    ...(router === null ? [] : [`  router ${router}, metrics ${routerMetrics}${logOf(router)}`]),
    ...(control === null ? [] : [`  control ${control}`]),
  ].map((line) => `${line}\n`).join("");
}

/** The endpoint; without it `serve` still serves. */
function startControl(
  engine: AsyncSGLang,
  { controlPort, launch, io }: StartOptions,
  synced: LastSync,
): FleetControl | undefined {
  const { supervisor } = engine;
  if (supervisor === undefined) return undefined;
  const options = {
    key: launch.adminApiKey ?? launch.apiKey,
    processOf(url: string) {
      const { servers = [], router } = engine.managed ?? {};
      return router?.url === url ? router : servers.find((server) => server.url === url);
    },
    onSynced: async (sync: SyncedFleet) => {
      const { version, checkpoint } = sync;
      if (checkpoint === null) synced.last = undefined;
      else {
        const fingerprint = await safetensors(checkpoint).fingerprint?.().catch(() => undefined);
        synced.last = { version, checkpoint, fingerprint };
      }
      await takeOutLeftOut(engine, sync);
    },
  };
  if (controlPort !== undefined) {
    return FleetControl.start(supervisor, { ...options, port: controlPort });
  }
  try {
    return FleetControl.start(supervisor, { ...options, port: defaultControlPort });
  } catch (error) {
    if (!(error instanceof StateError)) throw error;
    io.err(`Port ${defaultControlPort} is taken; the control endpoint takes a free one\n`);
    return FleetControl.start(supervisor, options);
  }
}

/** Whom a sync was without gets no requests before these weights are brought to it, too. */
async function takeOutLeftOut(engine: AsyncSGLang, { version, servers }: SyncedFleet) {
  await engine.refreshWorkers();
  const hasIt = ({ weightVersion }: { weightVersion: string | null }) => weightVersion === version;
  // A later sync may have been told of before.
  if (!engine.workers.some((worker) => servers.includes(worker.url) && hasIt(worker))) return;
  const leftOut = engine.workers.filter((worker) =>
    worker.state === "serving" && !servers.includes(worker.url) && !hasIt(worker)
  );
  await Promise.all(
    leftOut.map(({ url }) => engine.quarantineWorker(url, `it missed the sync to "${version}"`)),
  );
  await engine.refreshWorkers();
}

/** Brings the checkpoint of the last `sync` to one server, if the others still have it. */
async function refit(
  engine: AsyncSGLang,
  { url, last, launch, signal }: {
    url: string;
    last: LastSync["last"];
    launch: FromPretrainedOptions;
    signal: AbortSignal;
  },
): Promise<boolean> {
  if (last === undefined) return false;
  const held = await engine.askOthers(url, { signal });
  if (held.some((version) => version !== last.version)) return false;
  const source = safetensors(last.checkpoint);
  const { fingerprint } = last;
  // The same name must mean the same weights on every server.
  if (fingerprint === undefined || await source.fingerprint?.({ signal }) !== fingerprint) {
    const why = fingerprint === undefined ? "could not be read here" : "changed";
    throw new StateError(
      `${last.checkpoint} ${why} since it was synced as "${last.version}"; sync the fleet again`,
    );
  }
  const { apiKey, adminApiKey } = launch;
  const scheme = new SGLangWeightSyncScheme({ workers: [url], apiKey, adminApiKey });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup(undefined, { signal });
  await sender.updateWeights(source, { version: last.version, signal });
  return true;
}
