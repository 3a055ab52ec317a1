import { ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import type { Capabilities } from "./capabilities.ts";
import { type ClientLimits, clientLimits, type ClientLimitSettings } from "./limits.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { TORCHRL_SAMPLING_DEFAULTS } from "./sampling_params.ts";
import type { SamplingParams } from "./types.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** How often and how long apart a call that may be sent again is sent again. */
export interface RetrySettings {
  /** Tries after the first. Default 2; 0 never tries again. */
  readonly retries?: number | undefined;
  /** First pause, in milliseconds; doubles with each try. Default 200. */
  readonly initialDelayMs?: number | undefined;
  /** Longest pause. Default 5,000. */
  readonly maxDelayMs?: number | undefined;
  /** Share of each pause that is random, 0 to 1. Default 0.5. */
  readonly jitter?: number | undefined;
}

/** Options of {@linkcode SGLangClient}. */
export interface SGLangClientOptions {
  /** Address of the server, such as `http://127.0.0.1:30000`. */
  readonly url: string;
  /** Key of a server launched with `--api-key`. */
  readonly apiKey?: string | undefined;
  /** Key of a server launched with `--admin-api-key`, for control calls. Default `apiKey`. */
  readonly adminApiKey?: string | undefined;
  /** Further headers of every call, for a gateway before the server. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Deadline of calls that ask for something. Default 30,000. */
  readonly timeoutMs?: number | undefined;
  /** Deadline of a generation. Default 1,800,000 (30 minutes), as the router's. */
  readonly generateTimeoutMs?: number | undefined;
  /** Deadline of calls that change the server, such as weight updates. Default 300,000. */
  readonly controlTimeoutMs?: number | undefined;
  /** What to do when a call that may be sent again fails. */
  readonly retry?: RetrySettings | undefined;
  /**
   * Vocabulary size, against which token ids are checked. Default: the server is asked once, when
   * ids are first sent.
   */
  readonly vocabSize?: number | undefined;
  /** What the server can do. Default: read from the server once, when it matters. */
  readonly capabilities?: Capabilities | undefined;
  /** Sampling parameters that are sent when not given. Default TorchRL's; `{}` the server's. */
  readonly samplingDefaults?: SamplingParams | undefined;
  /**
   * Aborts a request that was left early. Default `/abort_request` of this server; behind a router
   * it has to reach the workers.
   */
  readonly abandon?: ((rid: string) => Promise<void>) | undefined;
  /** How much is read of what the server sends. */
  readonly limits?: ClientLimits | undefined;
  /**
   * HTTP proxy for the connections: its address, such as `http://proxy:3128`, or `"environment"` for
   * what `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` say (needs `--allow-env` for them).
   * Default none: servers are given by address, and a proxy that the environment has for the
   * internet can rarely reach them.
   */
  readonly proxy?: string | undefined;
  /** Certificates, in PEM, that are trusted for https besides the system's. */
  readonly caCerts?: readonly string[] | undefined;
  /**
   * Connections that are kept open for the next request. Default 1024; 0 closes each once its answer
   * is read, so that nothing is left open between calls.
   */
  readonly maxIdleConnections?: number | undefined;
  /** Where the client reports. Default nowhere. */
  readonly logger?: Logger | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/** Options with every default filled in. */
export interface ClientSettings {
  readonly timeoutMs: number;
  readonly generateTimeoutMs: number;
  readonly controlTimeoutMs: number;
  readonly retry: Required<{ [K in keyof RetrySettings]: number }>;
  readonly samplingDefaults: SamplingParams;
  readonly limits: ClientLimitSettings;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Names of {@linkcode SGLangClientOptions}. */
export const CLIENT_OPTION_NAMES = {
  url: true,
  apiKey: true,
  adminApiKey: true,
  headers: true,
  timeoutMs: true,
  generateTimeoutMs: true,
  controlTimeoutMs: true,
  retry: true,
  vocabSize: true,
  capabilities: true,
  samplingDefaults: true,
  limits: true,
  proxy: true,
  maxIdleConnections: true,
  caCerts: true,
  abandon: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<SGLangClientOptions>;

const RETRY_NAMES = {
  retries: true,
  initialDelayMs: true,
  maxDelayMs: true,
  jitter: true,
} as const satisfies OptionNames<RetrySettings>;

/** Checks options and fills in the defaults. */
export function clientSettings(options: SGLangClientOptions): ClientSettings {
  const { retry = {} } = options;
  checkOptionNames(options, CLIENT_OPTION_NAMES, "an SGLangClient");
  checkOptionNames(retry, RETRY_NAMES, "`retry`");
  const settings = {
    timeoutMs: options.timeoutMs ?? 30_000,
    generateTimeoutMs: options.generateTimeoutMs ?? 1_800_000,
    controlTimeoutMs: options.controlTimeoutMs ?? 300_000,
    retry: {
      retries: retry.retries ?? 2,
      initialDelayMs: retry.initialDelayMs ?? 200,
      maxDelayMs: retry.maxDelayMs ?? 5_000,
      jitter: retry.jitter ?? 0.5,
    },
    samplingDefaults: options.samplingDefaults ?? TORCHRL_SAMPLING_DEFAULTS,
    limits: clientLimits(options.limits),
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
  };
  checkCount("retry.retries", settings.retry.retries);
  checkPositive("timeoutMs", settings.timeoutMs);
  checkPositive("generateTimeoutMs", settings.generateTimeoutMs);
  checkPositive("controlTimeoutMs", settings.controlTimeoutMs);
  for (const name of ["vocabSize", "maxIdleConnections"] as const) {
    if (options[name] !== undefined) checkCount(name, options[name]);
  }
  return settings;
}

function checkCount(name: string, value: unknown): void {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return;
  throw new ValidationError(`${name} must be an integer of at least 0, got ${String(value)}`);
}

function checkPositive(name: string, value: unknown): void {
  if (typeof value === "number" && value > 0) return;
  throw new ValidationError(`${name} must be above 0 milliseconds, got ${String(value)}`);
}
