import { ValidationError } from "../errors.ts";
import { checkOptionNames } from "../internal/option_names.ts";
import { requireSendableKey } from "../internal/same_secret.ts";
import { flagName, flagsToArgs, type FlagValue, pastProxy } from "../process/mod.ts";
import { flagKeys, SERVER_OPTION_NAMES, type SGLangServerOptions } from "./options.ts";

/** What SGLang needs to run without a GPU. The tiny test models and small real ones were run so. */
const cpuFlags = {
  device: "cpu",
  attentionBackend: "torch_native",
  samplingBackend: "pytorch",
  grammarBackend: "none",
  disableOverlapSchedule: true,
  disableCudaGraph: true,
  // An idle CPU server would keep a core busy.
  sleepOnIdle: true,
  // Of the host's memory, which others use too.
  memFractionStatic: 0.2,
  dtype: "float32",
} as const satisfies Record<string, FlagValue>;

const cpuEnv = { SGLANG_USE_CPU_ENGINE: "1", CUDA_VISIBLE_DEVICES: "" } as const;

/**
 * With these a GPU server survives a trainer that dies in the middle of a weight update: NCCL's
 * watchdog aborts the group after about a second and leaves the process alone. With PyTorch's
 * defaults the server hangs for a minute and is then killed.
 */
const surviveEnv = {
  TORCH_NCCL_ASYNC_ERROR_HANDLING: "2",
  TORCH_NCCL_DUMP_ON_TIMEOUT: "0",
  TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC: "250",
} as const;

/**
 * `/health` then says whether the server runs without generating a token, so a server that is
 * paused for a weight sync is not counted as dead by the router. `/health_generate` still generates.
 */
const healthEnv = { SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION: "0" } as const;

/**
 * A server whose scheduler died otherwise waits a minute for CUDA core dumps before it exits, with
 * its port open and every call hanging.
 */
const exitEnv = { SGLANG_CUDA_COREDUMP_BEFORE_CRASH: "0" } as const;

/** Flags that have an option of their own, which `args` must not set again. */
const ownedFlags: ReadonlyMap<string, string> = new Map([
  ["--model-path", "model"],
  ["--model", "model"],
  ["--host", "host"],
  ["--port", "port"],
  ["--nccl-port", "ncclPort"],
  ["--api-key", "apiKey"],
  ["--admin-api-key", "adminApiKey"],
  ["--device", "device"],
  ...flagKeys.map((key): [string, string] => [flagName(key), key]),
]);

/** Arguments of `sglang.launch_server`. `port` and `ncclPort` are known by then. */
export function launchArgs(
  options: SGLangServerOptions,
  ports: { port: number; ncclPort: number },
): string[] {
  const args = options.args ?? {};
  const given = new Set(Object.keys(args).map(flagName));
  for (const flag of given) {
    const owner = ownedFlags.get(flag);
    if (owner === undefined) continue;
    throw new ValidationError(`\`args\` sets ${flag}; use the option \`${owner}\` instead`);
  }
  const forDevice: Record<string, FlagValue | undefined> = options.device === "cpu"
    ? cpuFlags
    : { device: options.device };
  const flags: Record<string, FlagValue | undefined> = {
    modelPath: options.model,
    host: options.host ?? "127.0.0.1",
    port: ports.port,
    tpSize: options.tpSize ?? 1,
    dpSize: options.dpSize ?? 1,
    baseGpuId: options.baseGpuId ?? 0,
    ncclPort: ports.ncclPort,
    apiKey: options.apiKey,
    adminApiKey: options.adminApiKey,
    ...forDevice,
  };
  for (const key of flagKeys) if (options[key] !== undefined) flags[key] = options[key];
  return [...flagsToArgs(flags), ...flagsToArgs(args)];
}

/** Variables to set for the server. What the user sets wins. */
export function launchEnv(
  options: SGLangServerOptions,
  env?: (name: string) => string | undefined,
): Record<string, string | null> {
  const { gpus, device } = options;
  return {
    PYTHONUNBUFFERED: "1",
    ...pastProxy(options.host === undefined ? [] : [options.host], env),
    ...healthEnv,
    ...exitEnv,
    ...(device === "cpu" ? cpuEnv : surviveEnv),
    ...(gpus === undefined ? {} : { CUDA_VISIBLE_DEVICES: gpus.join(",") }),
    ...options.env,
  };
}

/**
 * Checks what can be checked before anything is started.
 *
 * @throws {ValidationError} Naming the option that is wrong.
 */
export function checkServerOptions(options: SGLangServerOptions): void {
  checkOptionNames(
    options,
    SERVER_OPTION_NAMES,
    "a server",
    "Flags without an option of their own go into `args`",
  );
  if (typeof options.model !== "string" || options.model === "") {
    throw new ValidationError("`model` must be a folder or a Hugging Face name");
  }
  for (const name of ["tpSize", "dpSize", "ppSize", "epSize", "nnodes"] as const) {
    checkWhole(name, options[name], 1);
  }
  for (const name of ["baseGpuId", "gpuIdStep", "nodeRank"] as const) {
    checkWhole(name, options[name], 0);
  }
  for (const name of ["port", "ncclPort"] as const) {
    checkWhole(name, options[name], 1);
    if ((options[name] ?? 0) <= 55_535) continue;
    throw new ValidationError(
      `\`${name}\` must be at most 55535, as SGLang derives ports up to 10000 above it; ` +
        `it is ${options[name]}`,
    );
  }
  requireSendableKey("`apiKey`", options.apiKey);
  requireSendableKey("`adminApiKey`", options.adminApiKey);
  checkGpus(options);
}

function checkGpus({ gpus, env, device, baseGpuId = 0, ...options }: SGLangServerOptions): void {
  if (gpus === undefined) return;
  if (device === "cpu") throw new ValidationError('`gpus` and `device: "cpu"` exclude each other');
  if (env?.CUDA_VISIBLE_DEVICES !== undefined) {
    throw new ValidationError("`gpus` and `env.CUDA_VISIBLE_DEVICES` say the same: give one");
  }
  const { tpSize = 1, ppSize = 1, dpSize = 1, gpuIdStep = 1, nnodes = 1 } = options;
  const ranks = tpSize * ppSize * (options.enableDpAttention ? 1 : dpSize) / nnodes;
  const needed = baseGpuId + (ranks - 1) * gpuIdStep + 1;
  if (gpus.length >= needed) return;
  throw new ValidationError(`The server needs ${needed} GPUs, \`gpus\` has ${gpus.length}`);
}

function checkWhole(name: string, value: number | undefined, least: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= least)) return;
  throw new ValidationError(`\`${name}\` must be a whole number from ${least}, not ${value}`);
}
