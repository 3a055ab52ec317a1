/** The real SGLang (CPU) for tests: shared servers that the runner started, and own ones. */
import { isAbsolute, join } from "node:path";
import {
  environmentName,
  routerEnvironmentName,
  sglangHome,
  type SGLangVersion,
  sglangVersion,
  type TinyModel,
} from "../../scripts/sglang_cpu/home.ts";
import { startForkServers } from "../../scripts/sglang_cpu/fork_server.ts";
import { SGLangRouter, type SGLangRouterOptions } from "../../src/router/mod.ts";
import {
  makeSGLangServer,
  type SGLangServer,
  type SGLangServerOptions,
} from "../../src/server/mod.ts";

export { sglangHome, type SGLangVersion, type TinyModel };
export {
  type RealModel,
  realModels,
  tinyOnRealTokenizer,
  tokenizerFolder,
} from "../../scripts/real_tokenizers/home.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Folder of one of the tiny checkpoints that `deno task setup:sglang` makes. */
export function modelPath(model: TinyModel): string {
  return join(sglangHome(), model);
}

/** Variable by which the runner tells that all runs on one version. */
export const versionVariable = "SGLANG_RL_VERSION";

/** The one version that all runs on, whatever a test asks for; `undefined` in a usual run. */
export function versionUnderTest(): SGLangVersion | undefined {
  const name = Deno.env.get(versionVariable);
  return name ? sglangVersion(name) : undefined;
}

/** Python that has the given SGLang, or that of {@linkcode versionUnderTest}. */
export function pythonOf(version: SGLangVersion = "0.5.16"): string {
  return join(sglangHome(), environmentName(versionUnderTest() ?? version), "bin", "python");
}

/** Python that starts servers of a version quickly, where the runner has one, else the plain one. */
export function serverPython(version: SGLangVersion = "0.5.16"): string {
  return Deno.env.get(forkVariable(version)) || pythonOf(version);
}

/**
 * Pythons that start servers of these versions quickly: those of the runner, else new ones. See
 * {@linkcode startForkServers}.
 */
export function startForks(versions: readonly SGLangVersion[]) {
  const forks = new Map(
    versions.map((version) => [version, Deno.env.get(forkVariable(version))] as const),
  );
  const missing = [...forks].filter(([, python]) => !python).map(([version]) => version);
  // All or none: whoever runs a whole suite has all.
  if (missing.length === 0) {
    const pythons = new Map([...forks].map(([version, python]) => [version, python!] as const));
    return Promise.resolve({ pythons, async [Symbol.asyncDispose]() {} });
  }
  return startForkServers(
    new Map(versions.map((version) => [version, pythonOf(version)] as const)),
    cpuEnv,
  );
}

/** Variable by which the runner tells of a Python that forks servers of a version. */
export function forkVariable(version: SGLangVersion): string {
  return `SGLANG_RL_FORK_${version.replaceAll(".", "_")}`;
}

/** Python that has the router. */
export function routerPython(): string {
  return join(sglangHome(), routerEnvironmentName, "bin", "python");
}

/** Environment with which SGLang runs on a CPU. */
export const cpuEnv: Record<string, string> = {
  SGLANG_USE_CPU_ENGINE: "1",
  HF_HUB_OFFLINE: "1",
  TRANSFORMERS_OFFLINE: "1",
  CUDA_VISIBLE_DEVICES: "",
  OMP_NUM_THREADS: "1",
  PYTHONPATH: join(root, "scripts/sglang_cpu/shim"),
};

/** Options with which the tiny models run beside other servers on a small machine. */
const smallServer = {
  device: "cpu",
  memFractionStatic: 0.1,
  maxTotalTokens: 8192,
  maxRunningRequests: 16,
  dtype: "float32",
} as const satisfies Partial<SGLangServerOptions>;

/** The same as flags, for a test that launches SGLang by itself. */
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
  // An idle server would keep a core busy.
  "--sleep-on-idle",
];

/** What {@linkcode startRealServer} takes. */
export interface RealServerOptions extends Partial<Omit<SGLangServerOptions, "model">> {
  /** One of the tiny models, or the absolute path of a checkpoint. Default `"tiny"`. */
  readonly model?: TinyModel | (string & Record<never, never>) | undefined;
  /** Version of SGLang. Default 0.5.16; {@linkcode versionUnderTest} goes before it. */
  readonly version?: SGLangVersion | undefined;
}

/**
 * Starts a real server of a test's own. Under the runner it is forked from a process that has imported
 * SGLang, and takes a few seconds; else, or with a `python` of its own, 20 to 90 s and 2.8 GB. Share
 * one among the tests of a file, have no more than two of them at a time, and use the shared ones
 * where nothing is changed.
 */
export function startRealServer(options: RealServerOptions = {}): Promise<SGLangServer> {
  const { model = "tiny", version, env, ...rest } = options;
  return makeSGLangServer({
    ...smallServer,
    readyTimeoutMs: 240_000,
    // Nothing is worth the five seconds that an orderly end takes.
    stopGraceMs: 0,
    python: serverPython(version),
    ...rest,
    model: isAbsolute(model) ? model : modelPath(model as TinyModel),
    env: { ...cpuEnv, ...env },
  });
}

/** Starts a real router of a test's own, which takes two seconds. */
export function startRealRouter(options: SGLangRouterOptions): Promise<SGLangRouter> {
  return SGLangRouter.launch({ python: routerPython(), stopGraceMs: 0, ...options });
}

/** Variables by which the runner tells the tests where the shared servers are. */
export const sharedVariables = {
  servers: "SGLANG_RL_SERVERS",
  router: "SGLANG_RL_ROUTER",
  newest: "SGLANG_RL_NEWEST",
} as const;

function fromRunner(variable: string): string {
  const value = Deno.env.get(variable);
  if (value) return value;
  throw new Error(`${variable} is not set: run these tests with \`deno task test:real\``);
}

/** Addresses of the two shared servers (usually SGLang 0.5.16, model `tiny`). Leave them as found. */
export function sharedServers(): string[] {
  return fromRunner(sharedVariables.servers).split(",");
}

/** Address of the shared router in front of both. */
export function sharedRouter(): string {
  return fromRunner(sharedVariables.router);
}

/** Address of the shared server of the newest version (usually SGLang 0.5.23, model `tiny`). */
export function sharedNewest(): string {
  return fromRunner(sharedVariables.newest);
}
