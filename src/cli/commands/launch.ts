import { type Command, Option } from "commander";
import { ValidationError } from "../../errors.ts";
import { kubernetesManifests, slurmScript } from "../../fleet/launch/mod.ts";
import { portNumber, repeatable, wholeNumber } from "../fleet_options.ts";
import type { CommandContext } from "../program.ts";

interface Options {
  readonly slurm?: boolean | undefined;
  readonly kubernetes?: boolean | undefined;
  readonly name: string;
  readonly replicas: number;
  readonly nnodes: number;
  readonly gpusPerNode: number;
  readonly tp?: number | undefined;
  readonly port: number;
  readonly partition?: string | undefined;
  readonly time?: string | undefined;
  readonly cpusPerTask?: number | undefined;
  readonly python?: string | undefined;
  readonly prefix?: string | undefined;
  readonly command?: string | undefined;
  readonly image?: string | undefined;
  readonly routerImage?: string | undefined;
  readonly router: boolean;
  readonly modelsClaim?: string | undefined;
  readonly keysSecret?: string | undefined;
  readonly arg: readonly string[];
}

const examples = `
Examples:
  sglang-rl launch --slurm /models/policy -n 4 --gpus-per-node 8 > fleet.sbatch && sbatch fleet.sbatch
  sglang-rl launch --slurm /models/big -n 2 --nnodes 2 --gpus-per-node 8 --partition gpu
  sglang-rl launch --kubernetes /models/policy -n 4 --models-claim models | kubectl apply -f -

Nothing is started: what is printed is for you to read and to hand over.`;

/** Adds `launch`. */
export function addLaunch(program: Command, { io }: CommandContext): void {
  program.command("launch")
    .description("Print an sbatch script or Kubernetes manifests that start a fleet elsewhere.")
    .argument("<model>", "folder or Hugging Face name, as the servers' machines see it")
    .addOption(new Option("--slurm", "a script for sbatch").conflicts("kubernetes"))
    .option("--kubernetes", "manifests for kubectl")
    .option("--name <name>", "name of the jobs or objects", "sglang")
    .option("-n, --replicas <count>", "servers", wholeNumber(1), 1)
    .option("--nnodes <count>", "machines of each server", wholeNumber(1), 1)
    .option("--gpus-per-node <count>", "GPUs of each machine", wholeNumber(0), 1)
    .option("--tp <count>", "tensor-parallel ranks (default: all GPUs of a server)", wholeNumber(1))
    .option("-p, --port <port>", "port of each server", portNumber, 30_000)
    .option("--partition <name>", "Slurm: partition")
    .option("--time <time>", "Slurm: longest run")
    .option("--cpus-per-task <count>", "Slurm: CPUs of each machine", wholeNumber(1))
    .option("--python <path>", "Slurm: Python that has SGLang")
    .option("--prefix <words>", "Slurm: put before the server's command, as apptainer exec")
    .option("--command <words>", "Slurm: starts a server on $port instead of SGLang")
    .option("--image <name>", "Kubernetes: image with SGLang")
    .option("--router-image <name>", "Kubernetes: image with the router")
    .option("--no-router", "Kubernetes: no router")
    .option("--models-claim <name>", "Kubernetes: volume claim to mount at /models")
    .option("--keys-secret <name>", "Kubernetes: secret with api-key and admin-api-key")
    .addOption(repeatable("--arg <word>", "further argument of SGLang; may be repeated"))
    .addHelpText("after", examples)
    .action((model: string, options: Options) => io.out(launchFile(model, options)));
}

const ofSlurm = ["partition", "time", "cpusPerTask", "python", "prefix", "command"] as const;
const ofKubernetes = ["image", "routerImage", "modelsClaim", "keysSecret"] as const;

/** Refuses what the other kind of file takes. */
function refuseOther(options: Options): void {
  const [kind, others] = options.slurm ? ["--kubernetes", ofKubernetes] : ["--slurm", ofSlurm];
  const given = others.filter((name) => options[name] !== undefined);
  if (options.slurm && !options.router) {
    throw new ValidationError("--no-router is for --kubernetes");
  }
  if (given.length === 0) return;
  throw new ValidationError(given.map((name) => `\`${name}\``).join(", ") + ` is for ${kind}`);
}

function launchFile(model: string, options: Options): string {
  if (options.slurm || options.kubernetes) refuseOther(options);
  const { slurm, kubernetes, tp: tpSize, arg: args, router, routerImage, ...rest } = options;
  const launch = { ...rest, model, tpSize, args };
  if (slurm) return slurmScript(launch);
  if (!kubernetes) throw new ValidationError("Give --slurm or --kubernetes");
  return kubernetesManifests({ ...launch, routerImage: router ? routerImage : null });
}
