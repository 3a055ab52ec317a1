import { ValidationError } from "../../errors.ts";
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import {
  LAUNCH_OPTION_NAMES,
  type LaunchOptions,
  requireOneLine,
  requireWord,
  resolveLaunch,
  serverEnvironment,
  withKeysOfEnvironment,
} from "./options.ts";

/** Options of {@linkcode slurmScript}. */
export interface SlurmScriptOptions extends LaunchOptions {
  /** Partition. Default the cluster's. */
  readonly partition?: string | undefined;
  /** Longest run, such as `"1-00:00:00"`. Default the partition's. */
  readonly time?: string | undefined;
  /** CPUs of each machine. Default the cluster's. */
  readonly cpusPerTask?: number | undefined;
  /** Python that has SGLang, on the machines of the cluster. Default `"python3"`. */
  readonly python?: string | undefined;
  /** Put before the server's command, such as `apptainer exec --nv sglang.sif`. */
  readonly prefix?: string | undefined;
  /**
   * Shell command that starts a server on `$port`, instead of SGLang's. It may use `$port`, `$head`,
   * `$dist_port` and `$SLURM_PROCID`.
   */
  readonly command?: string | undefined;
}

const OPTION_NAMES = {
  ...LAUNCH_OPTION_NAMES,
  partition: true,
  time: true,
  cpusPerTask: true,
  python: true,
  prefix: true,
  command: true,
} as const satisfies OptionNames<SlurmScriptOptions>;

/**
 * A script for `sbatch`: a job array with one allocation for each replica, so that each is queued,
 * started and cancelled by itself. The server listens on the first node of its allocation, on `port`
 * plus the task's number, where {@linkcode serversInSlurm} finds it.
 *
 * @throws {ValidationError} An option is wrong.
 */
export function slurmScript(options: SlurmScriptOptions): string {
  checkOptionNames(options, OPTION_NAMES, "slurmScript()");
  const launch = resolveLaunch(options);
  const { name, replicas, nnodes, gpusPerNode, port } = launch;
  const { partition, time, cpusPerTask, prefix = "", python = "", command: given = "" } = options;
  for (const [option, value] of Object.entries({ partition, time })) requireWord(option, value);
  for (const text of [prefix, python, given]) requireOneLine(text);
  // Each replica has a port of its own, and one above it where it is on several nodes.
  const last = port + replicas - 1 + (nnodes > 1 ? 10_000 : 0);
  if (last > 65_535) {
    throw new ValidationError(
      `port ${port} is too high for ${replicas} replicas${
        nnodes > 1 ? " of several nodes" : ""
      }: ` +
        `the last would need port ${last}, and 65535 is the highest`,
    );
  }
  const directives = [
    `--job-name=${name}`,
    `--array=0-${replicas - 1}`,
    `--nodes=${nnodes}`,
    "--ntasks-per-node=1",
    ...(gpusPerNode === 0 ? [] : [`--gpus-per-node=${gpusPerNode}`]),
    ...(cpusPerTask === undefined ? [] : [`--cpus-per-task=${cpusPerTask}`]),
    ...(partition === undefined ? [] : [`--partition=${partition}`]),
    ...(time === undefined ? [] : [`--time=${time}`]),
    // A replica whose node fails is started again by Slurm; the fleet then refits it.
    "--requeue",
    "--open-mode=append",
    `--output=${name}-%A_%a.log`,
  ];
  const variables = Object.entries(serverEnvironment);
  const command = options.command ?? sglangCommand(options);
  return `#!/bin/bash
# ${replicas} SGLang server(s), each on ${nnodes} node(s): submit with "sbatch FILE".
# Cancel one with "scancel JOB_TASK", all with "scancel --name=${name}".
${directives.map((directive) => `#SBATCH ${directive}\n`).join("")}
set -euo pipefail
${variables.map(([key, value]) => `export ${key}=${value}\n`).join("")}
# A server asks itself before it is ready, past a proxy of the environment.
export no_proxy="\${no_proxy:+$no_proxy,}localhost,127.0.0.1" NO_PROXY="\${no_proxy:+$no_proxy,}localhost,127.0.0.1"
# Keys come from the environment of sbatch: SGLANG_API_KEY, SGLANG_ADMIN_API_KEY. No command line
# has them, so that others on the node cannot read them there.
export port=$((${port} + \${SLURM_ARRAY_TASK_ID:-0}))
export dist_port=$((port + 10000))
# Read to the end: who takes the first line only breaks the pipe, and the script with it.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
export head

# One task for each node; when one ends, all do, so that no half of a server is left.
exec srun --nodes=${nnodes} --ntasks=${nnodes} --ntasks-per-node=1 --kill-on-bad-exit=1 \\
  bash -c ${quoted(`exec ${prefix}${prefix === "" ? "" : " "}${command}`)}
`;
}

function sglangCommand(options: SlurmScriptOptions): string {
  const { model, tpSize, nnodes, args } = resolveLaunch(options);
  const { python = "python3" } = options;
  const several = nnodes === 1
    ? []
    : [`--nnodes ${nnodes}`, '--node-rank "$SLURM_PROCID"', '--dist-init-addr "$head:$dist_port"'];
  return [
    `${quoted(python)} -c ${quoted(withKeysOfEnvironment)} sglang.launch_server`,
    `--model-path ${quoted(model)}`,
    '--host 0.0.0.0 --port "$port"',
    `--tp-size ${tpSize}`,
    ...several,
    ...args.map(quoted),
  ].join(" ");
}

/** A word for a shell, whatever it holds. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
