import { ValidationError } from "../errors.ts";
import { checkOptionNames } from "../internal/option_names.ts";
import { requireSendableKey } from "../internal/same_secret.ts";
import { flagName, flagsToArgs } from "../process/mod.ts";
import { ROUTER_OPTION_NAMES, routerPolicies, type SGLangRouterOptions } from "./options.ts";
import { normalUrl } from "./worker.ts";

const ownedFlags: ReadonlyMap<string, string> = new Map([
  ["--host", "host"],
  ["--port", "port"],
  ["--worker-urls", "workers"],
  ["--policy", "policy"],
  ["--prometheus-port", "prometheusPort"],
  ["--api-key", "apiKey"],
  ["--disable-circuit-breaker", "circuitBreaker"],
  ["--disable-retries", "attempts"],
  ["--retry-max-retries", "attempts"],
  ["--request-timeout-secs", "requestTimeoutMs"],
  ["--health-check-interval-secs", "healthCheckIntervalMs"],
  ["--health-check-timeout-secs", "healthCheckTimeoutMs"],
  ["--health-failure-threshold", "healthFailureThreshold"],
  ["--log-level", "logLevel"],
]);

/** Arguments of `sglang_router.launch_router`. The ports are known by then. */
export function routerArgs(
  options: SGLangRouterOptions,
  ports: { port: number; prometheusPort: number },
): string[] {
  const args = options.args ?? {};
  for (const key of Object.keys(args)) {
    const owner = ownedFlags.get(flagName(key));
    if (owner === undefined) continue;
    throw new ValidationError(
      `\`args\` sets ${flagName(key)}; use the option \`${owner}\` instead`,
    );
  }
  const host = options.host ?? "127.0.0.1";
  return [
    ...flagsToArgs({
      host,
      port: ports.port,
      policy: options.policy ?? "cache_aware",
      prometheusHost: host,
      prometheusPort: ports.prometheusPort,
      apiKey: options.apiKey,
      disableCircuitBreaker: !(options.circuitBreaker ?? false),
      disableRetries: options.attempts === 1,
      retryMaxRetries: options.attempts,
      requestTimeoutSecs: seconds(options.requestTimeoutMs),
      healthCheckIntervalSecs: seconds(options.healthCheckIntervalMs ?? 5000),
      healthCheckTimeoutSecs: seconds(options.healthCheckTimeoutMs ?? 3000),
      healthFailureThreshold: options.healthFailureThreshold,
      logLevel: options.logLevel ?? "warn",
      // The router looks again at a server that is not up yet only every 30 s by itself.
      ...(hasFlag(args, "--worker-startup-check-interval")
        ? {}
        : { workerStartupCheckInterval: 1 }),
    }),
    ...flagsToArgs(args),
    // Last, because it takes all values that follow.
    ...flagsToArgs({ workerUrls: options.workers.map(normalUrl) }),
  ];
}

/**
 * Checks what can be checked before anything is started.
 *
 * @throws {ValidationError} Naming the option that is wrong.
 */
export function checkRouterOptions(options: SGLangRouterOptions): void {
  checkOptionNames(
    options,
    ROUTER_OPTION_NAMES,
    "a router",
    "Flags without an option of their own go into `args`",
  );
  if (!Array.isArray(options.workers)) {
    throw new ValidationError("`workers` must be a list of addresses");
  }
  const urls = options.workers.map(normalUrl);
  if (new Set(urls).size !== urls.length) {
    throw new ValidationError(`\`workers\` names a server twice: ${urls.join(", ")}`);
  }
  const { policy } = options;
  if (policy !== undefined && !routerPolicies.includes(policy)) {
    throw new ValidationError(
      `\`policy\` must be one of ${routerPolicies.join(", ")}, not "${policy}"`,
    );
  }
  for (const name of ["port", "prometheusPort"] as const) checkRange(name, options[name], 65_535);
  for (const name of ["attempts", "healthFailureThreshold"] as const) {
    checkRange(name, options[name], Number.MAX_SAFE_INTEGER);
  }
  requireSendableKey("`apiKey`", options.apiKey);
}

function checkRange(name: string, value: number | undefined, most: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= 1 && value <= most)) return;
  throw new ValidationError(`\`${name}\` must be a whole number from 1 to ${most}, not ${value}`);
}

function hasFlag(args: Readonly<Record<string, unknown>>, flag: string): boolean {
  return Object.keys(args).some((key) => flagName(key) === flag);
}

/** The router counts in whole seconds; a shorter time than one is one. */
function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.max(1, Math.ceil(ms / 1000));
}
