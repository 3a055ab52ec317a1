import type { FlagValue, LaunchProgress } from "../process/mod.ts";
import type { OptionNames } from "../internal/option_names.ts";

/** How the router chooses a server. */
export type RouterPolicy = "cache_aware" | "random" | "round_robin" | "power_of_two" | "manual";

/** Names of {@linkcode RouterPolicy}, for the check of what a caller gives. */
export const routerPolicies = [
  "cache_aware",
  "random",
  "round_robin",
  "power_of_two",
  "manual",
] as const satisfies readonly RouterPolicy[];

/** What to start, and how. What is left out keeps the router's default, unless one is named. */
export interface SGLangRouterOptions {
  /** Addresses of the servers. May be empty; servers can be added later. */
  readonly workers: readonly string[];
  /** How a server is chosen. Default `"cache_aware"`: the one that knows the longest prefix. */
  readonly policy?: RouterPolicy | undefined;
  /** Address to listen on. Default `"127.0.0.1"`. */
  readonly host?: string | undefined;
  /** HTTP port. Default a free one. */
  readonly port?: number | undefined;
  /** Port of the router's metrics, which are always served. Default a free one. */
  readonly prometheusPort?: number | undefined;
  /** Key that requests must carry, also sent to `workers`. Kept out of the log. */
  readonly apiKey?: string | undefined;
  /**
   * Takes a server out after failures. Default `false`: the router counts answers to bad requests
   * as failures, so ten mistakes of one client would close a server to all.
   */
  readonly circuitBreaker?: boolean | undefined;
  /** Attempts that the router makes in total. Its default is 5. 1 turns retries off. */
  readonly attempts?: number | undefined;
  /** Longest request, in milliseconds. Default 1,800,000. */
  readonly requestTimeoutMs?: number | undefined;
  /** Pause between health checks, in milliseconds. Default 5,000. */
  readonly healthCheckIntervalMs?: number | undefined;
  /** Longest health check, in milliseconds. Default 3,000. */
  readonly healthCheckTimeoutMs?: number | undefined;
  /** Health checks in a row after which a server gets no more requests. Default 3. */
  readonly healthFailureThreshold?: number | undefined;
  /** Level of the log. Default `"warn"`: at `"info"` the router logs every request twice. */
  readonly logLevel?: "debug" | "info" | "warn" | "error" | undefined;
  /** Further flags by name, in any case style: `{ cacheThreshold: 0.5 }`. */
  readonly args?: Readonly<Record<string, FlagValue>> | undefined;
  /** Variables of the router's environment, to set or (with `null`) to unset. */
  readonly env?: Readonly<Record<string, string | null>> | undefined;
  /**
   * Python that has the router. Default `$SGLANG_ROUTER_PYTHON`, `$SGLANG_PYTHON`, the active
   * virtual environment's, `python3`. Where SGLang is installed beside the router, its launcher
   * imports all of it: an environment of its own starts in one second instead of thirty.
   */
  readonly python?: string | undefined;
  /** File for the log. Default a temporary file, kept only when the router crashes. */
  readonly logFile?: string | undefined;
  /** Called with every line of the log. */
  readonly onLog?: ((line: string) => void) | undefined;
  /** Longest wait until the router and all `workers` are ready, in milliseconds. Default 120,000. */
  readonly readyTimeoutMs?: number | undefined;
  /** Called every few seconds until then. */
  readonly onProgress?: ((progress: LaunchProgress) => void) | undefined;
  /** What `stop` waits after SIGTERM before it kills, in milliseconds. Default 5,000. */
  readonly stopGraceMs?: number | undefined;
  /** Gives the launch up; a router that is ready is left alone. */
  readonly signal?: AbortSignal | undefined;
}

/** Names of {@linkcode SGLangRouterOptions}. */
export const ROUTER_OPTION_NAMES = {
  workers: true,
  policy: true,
  host: true,
  port: true,
  prometheusPort: true,
  apiKey: true,
  circuitBreaker: true,
  attempts: true,
  requestTimeoutMs: true,
  healthCheckIntervalMs: true,
  healthCheckTimeoutMs: true,
  healthFailureThreshold: true,
  logLevel: true,
  args: true,
  env: true,
  python: true,
  logFile: true,
  onLog: true,
  readyTimeoutMs: true,
  onProgress: true,
  stopGraceMs: true,
  signal: true,
} as const satisfies OptionNames<SGLangRouterOptions>;
