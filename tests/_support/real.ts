/** The real SGLang (CPU) for tests: shared servers that the runner started, and own ones. */
import { join } from "node:path";

const root = new URL("../../", import.meta.url).pathname;

/** Models that `deno task setup:sglang` makes. */
export type TinyModel = "tiny" | "tiny1" | "llama0" | "llama1";

/** Folder of the installed real SGLang. */
export function sglangHome(): string {
  const home = Deno.env.get("SGLANG_CPU_HOME");
  if (home) return home;
  const cache = Deno.env.get("XDG_CACHE_HOME") || join(Deno.env.get("HOME") ?? ".", ".cache");
  return join(cache, "sglang-rl", "sglang-cpu");
}

/** Folder of one of the tiny checkpoints. */
export function modelPath(model: TinyModel): string {
  return join(sglangHome(), model);
}

/** Python that has the given SGLang. */
export function pythonOf(version: "0.5.16" | "0.5.23" = "0.5.16"): string {
  return join(sglangHome(), version === "0.5.16" ? "venv" : `venv-${version}`, "bin", "python");
}

/** Python that has the router. */
export function routerPython(): string {
  return join(sglangHome(), "rvenv", "bin", "python");
}

/** Environment with which SGLang runs on a CPU. */
export const cpuEnv: Record<string, string> = {
  SGLANG_USE_CPU_ENGINE: "1",
  HF_HUB_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  CUDA_VISIBLE_DEVICES: "",
  OMP_NUM_THREADS: "1",
  PYTHONPATH: join(root, "scripts/sglang_cpu/shim"),
  LD_LIBRARY_PATH: "",
};

/** Flags with which SGLang runs on a CPU. */
export const cpuArgs: readonly string[] = [
  "--device=cpu",
  "--attention-backend=torch_native",
  "--sampling-backend=pytorch",
  "--grammar-backend=none",
  "--disable-overlap-schedule",
  "--disable-cuda-graph",
  "--mem-fraction-static=0.1",
  "--max-total-tokens=8192",
  "--max-running-requests=16",
  "--dtype=float32",
];

function fromRunner(variable: string): string {
  const value = Deno.env.get(variable);
  if (value) return value;
  throw new Error(`${variable} is not set: run these tests with \`deno task test:real\``);
}

/** Addresses of the two shared servers (SGLang 0.5.16, model `tiny`). Leave them as found. */
export function sharedServers(): string[] {
  return fromRunner("SGLANG_RL_SERVERS").split(",");
}

/** Address of the shared router in front of both. */
export function sharedRouter(): string {
  return fromRunner("SGLANG_RL_ROUTER");
}

/** Address of the shared server of SGLang 0.5.23 (model `tiny`). */
export function sharedNewest(): string {
  return fromRunner("SGLANG_RL_NEWEST");
}
