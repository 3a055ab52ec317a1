import { ValidationError } from "../../errors.ts";
import { checkPort } from "../discovery/discovery.ts";
import type { OptionNames } from "../../internal/option_names.ts";

/** What the launch files of a fleet have in common. */
export interface LaunchOptions {
  /** Folder or Hugging Face name of the model, as the servers' machines see it. */
  readonly model: string;
  /** Name of the jobs or objects. Default `"sglang"`. */
  readonly name?: string | undefined;
  /** Servers, each with machines of its own. Default 1. */
  readonly replicas?: number | undefined;
  /** Machines of each server. Default 1. */
  readonly nnodes?: number | undefined;
  /** GPUs of each machine; 0 for servers on a CPU. Default 1. */
  readonly gpusPerNode?: number | undefined;
  /** Tensor-parallel ranks of each server. Default all its GPUs. */
  readonly tpSize?: number | undefined;
  /** Port of each server. Default 30000. */
  readonly port?: number | undefined;
  /** Further arguments of SGLang, one by one. */
  readonly args?: readonly string[] | undefined;
}

/** Their names. */
export const LAUNCH_OPTION_NAMES = {
  model: true,
  name: true,
  replicas: true,
  nnodes: true,
  gpusPerNode: true,
  tpSize: true,
  port: true,
  args: true,
} as const satisfies OptionNames<LaunchOptions>;

/** Launch options with their defaults. */
export interface ResolvedLaunch {
  readonly model: string;
  readonly name: string;
  readonly replicas: number;
  readonly nnodes: number;
  readonly gpusPerNode: number;
  readonly tpSize: number;
  readonly port: number;
  readonly args: readonly string[];
}

/**
 * The options with their defaults.
 *
 * @throws {ValidationError} One is wrong; names it.
 */
export function resolveLaunch(options: LaunchOptions): ResolvedLaunch {
  const { model, name = "sglang", replicas = 1, nnodes = 1, gpusPerNode = 1 } = options;
  const { port = 30_000, args = [], tpSize = Math.max(1, gpusPerNode * nnodes) } = options;
  if (typeof model !== "string" || model === "") throw new ValidationError("model is missing");
  if (!/^[a-z]([-a-z0-9]{0,40}[a-z0-9])?$/.test(name)) {
    throw new ValidationError(
      `name must be small letters, digits and dashes, at most 42, got "${name}"`,
    );
  }
  for (const [option, value] of Object.entries({ replicas, nnodes, tpSize })) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ValidationError(`${option} must be a whole number from 1 on, got ${value}`);
  }
  if (!Number.isSafeInteger(gpusPerNode) || gpusPerNode < 0) {
    throw new ValidationError(`gpusPerNode must be a whole number from 0 on, got ${gpusPerNode}`);
  }
  checkPort(port);
  for (const text of [model, ...args]) requireOneLine(text);
  return { model, name, replicas, nnodes, gpusPerNode, tpSize, port, args };
}

/**
 * A script must stay in its lines.
 *
 * @throws {ValidationError} The text has control characters.
 */
export function requireOneLine(text: string): void {
  // deno-lint-ignore no-control-regex -- those are what is looked for
  if (!/[\x00-\x1f\x7f]/.test(text)) return;
  throw new ValidationError(`${JSON.stringify(text)} has control characters`);
}

/**
 * An option that is a name or another word, where blanks would begin something else.
 *
 * @throws {ValidationError} It is none; names it.
 */
export function requireWord(option: string, value: string | null | undefined): void {
  if (value === undefined || value === null || /^[\w.,:@/+%-]+$/.test(value)) return;
  throw new ValidationError(
    `\`${option}\` must be a word of letters, digits and .,:@/+%-_, got ${JSON.stringify(value)}`,
  );
}

/** Variables with which a server survives a trainer that dies in a weight update, and its pauses. */
export const serverEnvironment: Readonly<Record<string, string>> = {
  TORCH_NCCL_ASYNC_ERROR_HANDLING: "2",
  TORCH_NCCL_DUMP_ON_TIMEOUT: "0",
  TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC: "250",
  SGLANG_ENABLE_HEALTH_ENDPOINT_GENERATION: "0",
  SGLANG_CUDA_COREDUMP_BEFORE_CRASH: "0",
  PYTHONUNBUFFERED: "1",
};

/**
 * A line of Python that runs the module of its first argument with the keys of the environment, which
 * SGLang itself takes on its command line only, where everybody on the machine could read them.
 */
export const withKeysOfEnvironment = "import os, runpy, sys; del sys.argv[0]; " +
  "keys = {'--api-key': 'SGLANG_API_KEY', '--admin-api-key': 'SGLANG_ADMIN_API_KEY'}; " +
  "sys.argv[1:1] = [f'{flag}={os.environ[name]}' for flag, name in keys.items() " +
  "if os.environ.get(name)]; " +
  "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)";
