/** A Slurm of one machine: the distribution's controller, node daemon and munge, in a folder. */
import { join } from "node:path";
import { sleep } from "../../src/internal/deadline.ts";
import { freePort } from "../../tests/_support/free_port.ts";

/** A running Slurm; disposing cancels all jobs and ends it. */
export interface SlurmCluster extends AsyncDisposable {
  /** Runs a Slurm command and gives what it prints. */
  run(command: string, ...args: string[]): Promise<string>;
}

/** Whether the programs are there. */
export async function hasSlurm(): Promise<boolean> {
  const { success } = await new Deno.Command("sh", {
    args: ["-c", "command -v slurmctld && command -v slurmd && command -v munged"],
    stdout: "null",
  }).output();
  return success;
}

/** Starts Slurm in a folder, with free ports; needs root, as slurmd does. */
export async function startSlurm(folder: string): Promise<SlurmCluster> {
  await using stack = new AsyncDisposableStack();
  const at = (name: string) => join(folder, name);
  for (const name of ["state", "spool", "munge"]) await Deno.mkdir(at(name), { recursive: true });
  await Deno.chmod(at("munge"), 0o755);
  await Deno.writeFile(at("munge/key"), crypto.getRandomValues(new Uint8Array(128)), {
    mode: 0o400,
  });
  await Deno.writeTextFile(at("slurm.conf"), config(folder));
  const env = { SLURM_CONF: at("slurm.conf"), LD_LIBRARY_PATH: "" };
  const daemon = (command: string, args: string[]) => {
    const child = new Deno.Command(command, {
      args,
      env,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    stack.defer(async () => {
      try {
        child.kill("SIGTERM");
      } catch {
        // It has ended.
      }
      await child.status;
    });
    return child;
  };
  daemon("munged", [
    "--foreground",
    "--force",
    `--key-file=${at("munge/key")}`,
    `--socket=${at("munge/socket")}`,
    `--pid-file=${at("munge/pid")}`,
    `--log-file=${at("munge/log")}`,
    `--seed-file=${at("munge/seed")}`,
  ]);
  await until("munge", () => Deno.stat(at("munge/socket")).then(() => true, () => false));
  daemon("slurmctld", ["-D", "-c"]);
  daemon("slurmd", ["-D", "-N", "localhost"]);
  const run = async (command: string, ...args: string[]) => {
    const { success, stdout, stderr } = await new Deno.Command(command, { args, env, cwd: folder })
      .output();
    const decoder = new TextDecoder();
    if (!success) throw new Error(`${command}: ${decoder.decode(stderr)}`);
    return decoder.decode(stdout);
  };
  await until("Slurm", async () => {
    const state = await run("sinfo", "--noheader", "--format=%t").catch(() => "");
    return state.trim() === "idle";
  });
  const owned = stack.move();
  return {
    run,
    async [Symbol.asyncDispose]() {
      const jobs = (await run("squeue", "--noheader", "--format=%A")).split("\n").filter(Boolean);
      if (jobs.length > 0) await run("scancel", ...jobs);
      await until("the jobs' end", async () => (await run("squeue", "--noheader")).trim() === "")
        .catch(() => {});
      await owned.disposeAsync();
    },
  };
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let look = 0; look < 300; look++) {
    if (await isSo()) return;
    await sleep(100);
  }
  throw new Error(`${what} did not come in 30 s`);
}

function config(folder: string): string {
  return `ClusterName=sglang-rl-test
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=${folder}/munge/socket
CredType=cred/munge
SlurmctldPort=${freePort()}
SlurmdPort=${freePort()}
StateSaveLocation=${folder}/state
SlurmdSpoolDir=${folder}/spool
SlurmctldPidFile=${folder}/slurmctld.pid
SlurmdPidFile=${folder}/slurmd.pid
SlurmctldLogFile=${folder}/slurmctld.log
SlurmdLogFile=${folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=3
NodeName=localhost NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=localhost Default=YES MaxTime=INFINITE State=UP
`;
}
