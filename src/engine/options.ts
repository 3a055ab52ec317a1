import { CLIENT_OPTION_NAMES, type SGLangClientOptions } from "../client/options.ts";
import type { CallOptions } from "../client/types.ts";
import { ValidationError } from "../errors.ts";
import type { FleetSupervisorOptions } from "../fleet/mod.ts";
import type { SGLangRouterOptions } from "../router/mod.ts";
import type { SGLangServerOptions } from "../server/mod.ts";
import type { OptionNames } from "../internal/option_names.ts";
import { SERVER_OPTION_NAMES } from "../server/options.ts";

/** Options of an engine. Those of {@linkcode SGLangClientOptions} hold for every server. */
export interface EngineOptions extends
  Omit<
    SGLangClientOptions,
    "url" | "abandon" | "capabilities"
  > {
  /**
   * Most requests in flight at once; further ones wait, first come, first served. Default twice what
   * the servers run at once, so that each always has the next request at hand.
   */
  readonly maxConcurrency?: number | undefined;
  /**
   * How often the engine compares its servers with the router's and asks them what they hold, in
   * milliseconds; 0 for never. Default 10 000. Without a router it begins with the first sync.
   */
  readonly membershipMs?: number | undefined;
  /**
   * Whether a server whose weights are not the fleet's gets no requests, also not from the router,
   * until a sync reached it. Default `true`; `false` only tells of it in the log.
   */
  readonly quarantine?: boolean | undefined;
  /**
   * Longest wait of a request while no server may serve, in milliseconds. Default 120 000; then a
   * `StateError` tells why of each.
   */
  readonly servingTimeoutMs?: number | undefined;
  /**
   * Longest that a prompt waits for an equal one that a server was sent just before, in milliseconds,
   * so that it finds it in the server's cache; 0 for never. Without a router. Default 500, less for
   * short prompts, none below 50 ids or 200 characters.
   */
  readonly equalPromptsWaitMs?: number | undefined;
  /** Key of the router, when it has its own. Default `apiKey`. */
  readonly routerApiKey?: string | undefined;
  /**
   * Folder of the model's safetensors files on this machine, for
   * {@linkcode AsyncSGLang.getModelMetadata}. Default the path that the server reports.
   */
  readonly modelFolder?: string | undefined;
}

/** Options of {@linkcode AsyncSGLang.connect}. */
export interface ConnectOptions extends EngineOptions, Pick<CallOptions, "signal"> {}

/** A router and the servers behind it. */
export interface RouterTarget {
  /** Address of the router. */
  readonly router: string;
  /** Addresses of the servers. Default those that the router knows. */
  readonly workers?: readonly string[] | undefined;
}

/** What to connect to: a server, several, or a router. */
export type ConnectTarget = string | readonly string[] | RouterTarget;

/**
 * Options of {@linkcode AsyncSGLang.fromPretrained}: those of the engine, and those of
 * {@linkcode makeSGLangServer} for every replica.
 */
export interface FromPretrainedOptions
  extends EngineOptions, Omit<SGLangServerOptions, "model" | "port" | "ncclPort"> {
  /** Port of the router, or of the only server where there is none. Default a free one. */
  readonly port?: number | undefined;
  /** Number of servers, each with its own GPUs. Default 1. */
  readonly numReplicas?: number | undefined;
  /**
   * The router in front of the servers: `true`, `false` or its options. Default `true` for more
   * than one replica. Without it the engine itself spreads the requests, fewest in flight first.
   */
  readonly router?: boolean | Omit<SGLangRouterOptions, "workers"> | undefined;
  /**
   * Whether servers that end or freeze are started again, refitted and then let in again, and the
   * router too; options say how. Default `true`. See `docs/servers.md`.
   */
  readonly supervise?: boolean | Omit<FleetSupervisorOptions, "servers" | "router"> | undefined;
  /** Folder for the logs `server-0.log`, `server-1.log`, … and `router.log`. Default temporary files. */
  readonly logFolder?: string | undefined;
}

const { url: _url, capabilities: _capabilities, abandon: _abandon, ...clientNames } =
  CLIENT_OPTION_NAMES;

/** Names of {@linkcode ConnectOptions}, of which none but the keys is for managed servers. */
export const ENGINE_OPTION_NAMES = {
  ...clientNames,
  maxConcurrency: true,
  membershipMs: true,
  quarantine: true,
  servingTimeoutMs: true,
  equalPromptsWaitMs: true,
  routerApiKey: true,
  modelFolder: true,
  signal: true,
} as const satisfies OptionNames<ConnectOptions>;

/** Names of {@linkcode FromPretrainedOptions} that are for the fleet, not for each server. */
export const MANAGED_OPTION_NAMES = {
  port: true,
  numReplicas: true,
  router: true,
  supervise: true,
  logFolder: true,
} as const;

const { model: _model, port: _port, ncclPort: _ncclPort, ...replicaNames } = SERVER_OPTION_NAMES;

/** Names of {@linkcode FromPretrainedOptions}. */
export const PRETRAINED_OPTION_NAMES = {
  ...replicaNames,
  ...ENGINE_OPTION_NAMES,
  ...MANAGED_OPTION_NAMES,
} as const satisfies OptionNames<FromPretrainedOptions>;

/** Refuses a limit that is none. */
export function checkConcurrency({ maxConcurrency }: EngineOptions): void {
  if (maxConcurrency === undefined) return;
  if (Number.isSafeInteger(maxConcurrency) && maxConcurrency > 0) return;
  throw new ValidationError(`maxConcurrency must be an integer above 0, got ${maxConcurrency}`);
}
