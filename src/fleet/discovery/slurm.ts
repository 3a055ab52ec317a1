import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { StateError, ValidationError } from "../../errors.ts";
import { withDeadline } from "../../internal/deadline.ts";
import { asPermissionError } from "../../internal/permission.ts";
import { Semaphore } from "../../internal/semaphore.ts";
import {
  checkPort,
  polling,
  POLLING_OPTION_NAMES,
  type PollingOptions,
  type ServerDiscovery,
  serverUrl,
} from "./discovery.ts";

/** Options of {@linkcode serversInSlurm}; at least one of `jobName` and `jobId` is needed. */
export interface SlurmOptions extends PollingOptions {
  /** Name of the jobs, as `sbatch --job-name`. */
  readonly jobName?: string | undefined;
  /** A job; the tasks of a job array are found by the array's id. */
  readonly jobId?: number | string | undefined;
  /** Whose jobs. Default those of everybody. */
  readonly user?: string | undefined;
  /**
   * Port of each server on the first node of its allocation. In a job array the task's number is
   * added, as in the script of `sglang-rl launch --slurm`, so that tasks may share a node.
   * Default 30000.
   */
  readonly port?: number | undefined;
  /** Runs a program and gives what it prints. Default as a subprocess. */
  readonly run?: ((command: string, args: readonly string[]) => Promise<string>) | undefined;
}

const NAMES = {
  ...POLLING_OPTION_NAMES,
  jobName: true,
  jobId: true,
  user: true,
  port: true,
  run: true,
} as const satisfies OptionNames<SlurmOptions>;

/** Most programs at once. */
const PROCESSES = 8;

/** Longest wait for `squeue` and `scontrol`. */
const COMMAND_MS = 30_000;

/**
 * Servers that run as Slurm jobs, one for each allocation, on its first node: read from `squeue` and
 * `scontrol`. Needs `--allow-run=squeue,scontrol`.
 */
export function serversInSlurm(options: SlurmOptions): ServerDiscovery {
  checkOptionNames(options, NAMES, "serversInSlurm()");
  const { jobName, jobId, user, port = 30_000, run = runCommand } = options;
  checkPort(port);
  if (jobName === undefined && jobId === undefined) {
    throw new ValidationError("Give jobName or jobId, by which the servers' jobs are found");
  }
  const args = [
    "--noheader",
    "--array",
    "--states=RUNNING",
    "--format=%K|%N",
    ...(jobName === undefined ? [] : [`--name=${jobName}`]),
    ...(jobId === undefined ? [] : [`--jobs=${jobId}`]),
    ...(user === undefined ? [] : [`--user=${user}`]),
  ];
  const name = jobName === undefined ? `Slurm job ${jobId}` : `Slurm jobs "${jobName}"`;
  // A thousand jobs must not be a thousand processes at once.
  const turn = new Semaphore(PROCESSES);
  return polling(name, async () => {
    const jobs = parseQueue(await run("squeue", args));
    return await Promise.all(jobs.map(async ({ task, nodes }) => {
      using _turn = /[[,]/.test(nodes) ? await turn.acquire() : undefined;
      const hosts = /[[,]/.test(nodes)
        ? (await run("scontrol", ["show", "hostnames", nodes])).trim().split("\n")
        : [nodes];
      return serverUrl(hosts[0]!, port + (task ?? 0));
    }));
  }, { intervalMs: 10_000, ...options });
}

/** The running jobs of `squeue --format=%K|%N`: the task in its array and the nodes. */
export function parseQueue(text: string): { task: number | null; nodes: string }[] {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "").flatMap(
    (line) => {
      const [task = "", nodes = ""] = line.split("|");
      // A job that is just being started has no nodes yet.
      if (nodes === "" || nodes === "(null)") return [];
      return [{ task: /^\d+$/.test(task) ? Number(task) : null, nodes }];
    },
  );
}

async function runCommand(command: string, args: readonly string[]): Promise<string> {
  return await withDeadline({ phase: `run ${command}`, timeoutMs: COMMAND_MS }, async (signal) => {
    try {
      const { success, stdout, stderr } = await new Deno.Command(command, {
        args: [...args],
        stdin: "null",
        signal,
      }).output();
      const decoder = new TextDecoder();
      if (success) return decoder.decode(stdout);
      throw new StateError(`${command} failed: ${decoder.decode(stderr).trim()}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        throw new StateError(`There is no ${command} here: is this a machine of the cluster?`, {
          cause: error,
        });
      }
      throw asPermissionError(error, `--allow-run=${command}`, `run ${command}`);
    }
  });
}
