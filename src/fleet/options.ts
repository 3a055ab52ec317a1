import { ValidationError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { ServerDiscovery } from "./discovery/discovery.ts";
import type { FleetEvent } from "./events.ts";
import { defaultRules, type FleetRules } from "./machine.ts";

/** A server that can be started again. */
export interface StartableServer {
  /** Address; the same after a restart. */
  readonly url: string;
  /** Resolves when its process has ended. */
  readonly exited: Promise<{
    /** Whether it was told to end. */
    readonly requested: boolean;
    readonly exitCode: number | null;
    readonly signal: string | null;
  }>;
  /** Ends what is left of it and starts it again; resolves when it answers. */
  restart(options: { readonly signal: AbortSignal }): Promise<StartableServer>;
}

/** The router in front of a fleet, which can be started again. */
export interface StartableRouter {
  /** Address; the same after a restart. */
  readonly url: string;
  /** Resolves when its present process has ended. */
  readonly exited: StartableServer["exited"];
  /** Asks it whether it lives; rejects when it does not answer. */
  probe(options: { readonly signal: AbortSignal }): Promise<void>;
  /** Ends what is left of it and starts it again; resolves when it has the servers that serve. */
  restart(options: { readonly signal: AbortSignal }): Promise<void>;
}

/** A server of a fleet, as its supervisor sees it; `SGLangWorker` is one. */
export interface FleetWorker {
  /** Address. */
  readonly url: string;
  /** `serving` when it gets requests. */
  readonly state: string;
  /** Why it stands there. */
  readonly reason: string;
  /** Weight version that it last told, or was given. */
  readonly weightVersion?: string | null;
}

/** What is supervised; `AsyncSGLang` is one. */
export interface SupervisedFleet {
  /** The servers that are there now. */
  readonly workers: readonly FleetWorker[];
  /** Takes a server in: brings it the fleet's weights first, then lets it serve. */
  addWorker(url: string, options: { readonly signal?: AbortSignal }): Promise<FleetWorker>;
  /** Lets a server go. */
  removeWorker(
    url: string,
    options: { readonly drainMs?: number; readonly signal?: AbortSignal },
  ): Promise<void>;
  /** Lets a server get no requests until a sync reached it. */
  quarantineWorker(url: string, reason: string): Promise<void>;
  /** Asks every server what it holds. */
  refreshWorkers(options: { readonly signal?: AbortSignal }): Promise<unknown>;
  /** Calls back whenever a server's state changes. */
  onWorkerEvent(
    listener: (
      event: { readonly url: string; readonly to: string; readonly reason: string },
    ) => void,
  ): Disposable;
}

/** Options of {@linkcode FleetSupervisor}; all have a default. */
export interface FleetSupervisorOptions extends Partial<FleetRules> {
  /** Pause between two probes of a server, in milliseconds. Default 2,000. */
  readonly probeMs?: number | undefined;
  /** Longest wait for the answer to a probe, in milliseconds. Default 5,000. */
  readonly probeTimeoutMs?: number | undefined;
  /** Longest wait for running requests of a server that is drained. Default 30,000. */
  readonly drainMs?: number | undefined;
  /** Called with every event. */
  readonly onEvent?: ((event: FleetEvent) => void) | undefined;
  /**
   * Asks a server whether it lives and what its weights are; rejects when it does not answer.
   * Default `GET /model_info`, which a paused server answers too.
   */
  readonly probe?:
    | ((url: string, signal: AbortSignal) => Promise<{ readonly weightVersion: string | null }>)
    | undefined;
  /**
   * Brings the fleet's weights to a server that the fleet cannot refit by itself, from a checkpoint
   * that somebody named for example; `false` when there is nothing to bring.
   */
  readonly refit?:
    | ((url: string, options: { readonly signal: AbortSignal }) => Promise<boolean>)
    | undefined;
  /** Key of the servers. */
  readonly apiKey?: string | undefined;
  /** Further headers of every probe. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** HTTP proxy for the probes: its address, or `"environment"`. Default none. */
  readonly proxy?: string | undefined;
  /** Certificates, in PEM, that are trusted for https besides the system's. */
  readonly caCerts?: readonly string[] | undefined;
  /** Where servers of others are found; see {@linkcode FleetSupervisor.follow}. Default nowhere. */
  readonly discovery?: ServerDiscovery | undefined;
  /** The servers that are ours to start; the others are only watched. */
  readonly servers?: readonly StartableServer[] | undefined;
  /** The router in front of the servers, when it is ours to start. */
  readonly router?: StartableRouter | undefined;
  /** Where to report. Default nowhere. */
  readonly logger?: Logger | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

const OPTION_NAMES = {
  probeMs: true,
  probeTimeoutMs: true,
  drainMs: true,
  onEvent: true,
  probe: true,
  refit: true,
  apiKey: true,
  headers: true,
  proxy: true,
  caCerts: true,
  discovery: true,
  servers: true,
  router: true,
  logger: true,
  clock: true,
  missedLimit: true,
  failedLimit: true,
  restartLimit: true,
  steadyMs: true,
  backoffMs: true,
  maxBackoffMs: true,
  minHealthy: true,
} as const satisfies OptionNames<FleetSupervisorOptions>;

/** Numbers of {@linkcode FleetSupervisorOptions}, and the least that each may be. */
const least = {
  missedLimit: 1,
  failedLimit: 1,
  restartLimit: 0,
  steadyMs: 0,
  backoffMs: 0,
  maxBackoffMs: 0,
  minHealthy: 0,
  probeMs: 1,
  probeTimeoutMs: 1,
  drainMs: 0,
} as const;

/**
 * The rules of the options, with the defaults.
 *
 * @throws {ValidationError} A number is none, or too small.
 */
export function rulesOf(options: FleetSupervisorOptions): FleetRules {
  checkOptionNames(options, OPTION_NAMES, "a FleetSupervisor");
  for (const [name, bound] of Object.entries(least)) {
    const value = options[name as keyof typeof least];
    if (value === undefined || (Number.isFinite(value) && value >= bound)) continue;
    throw new ValidationError(`${name} must be a number of at least ${bound}, got ${value}`);
  }
  const given = Object.entries(options).filter(([name, value]) =>
    name in defaultRules && value !== undefined
  );
  return { ...defaultRules, ...Object.fromEntries(given) };
}
