/**
 * Finding and opening shared libraries.
 *
 * @module
 */
import { checkOptionNames, type OptionNames } from "../src/internal/option_names.ts";
import { LibraryError, PermissionError } from "../src/errors.ts";
import { messageOf } from "../src/internal/thrown.ts";
import { KEEP_LOADED, loaderSymbols } from "./libc/symbols.ts";
import { toCString } from "./memory.ts";

/** The shared libraries that this project opens. */
export type LibraryName = "nccl" | "cudart" | "cuda";

/** Where to look for the shared libraries. All parts are optional. */
export interface LibraryOptions {
  /** Path of `libnccl.so.2`. Must be the copy that the servers use: NCCL's versions do not mix. */
  readonly nccl?: string;
  /** Path of `libcudart.so.12` or `.13`. */
  readonly cudart?: string;
  /** Path of `libcuda.so.1`, the driver; only the kernels and the device's UUID need it. */
  readonly cuda?: string;
  /**
   * The servers' Python: path of its executable (`/venv/bin/python`), of the environment
   * (`/venv`) or of its `site-packages`. NVIDIA's wheels in it are tried.
   */
  readonly python?: string;
}

const NAMES = {
  nccl: true,
  cudart: true,
  cuda: true,
  python: true,
} as const satisfies OptionNames<LibraryOptions>;

/** One place to try, and why. */
export interface LibraryCandidate {
  /** Absolute path. */
  readonly path: string;
  /** Where the path comes from, for the error. */
  readonly origin: string;
}

interface LibraryFacts {
  readonly fileNames: readonly string[];
  readonly variable: string;
  readonly wheelFolders: readonly string[];
  readonly systemFolders: readonly string[];
}

const ubuntu = "/usr/lib/x86_64-linux-gnu";
const arm = "/usr/lib/aarch64-linux-gnu";
const toolkit = ["/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib"];

const facts: Record<LibraryName, LibraryFacts> = {
  nccl: {
    fileNames: ["libnccl.so.2"],
    variable: "SGLANG_RL_NCCL",
    wheelFolders: ["nvidia/nccl/lib"],
    systemFolders: [ubuntu, arm, "/usr/lib64", "/usr/local/lib", ...toolkit],
  },
  cudart: {
    fileNames: ["libcudart.so.13", "libcudart.so.12"],
    variable: "SGLANG_RL_CUDART",
    wheelFolders: ["nvidia/cu13/lib", "nvidia/cuda_runtime/lib"],
    systemFolders: [...toolkit, ubuntu, arm, "/usr/lib64", "/usr/local/lib"],
  },
  cuda: {
    fileNames: ["libcuda.so.1"],
    variable: "SGLANG_RL_CUDA",
    wheelFolders: [],
    systemFolders: [
      ubuntu,
      arm,
      "/usr/lib64",
      "/usr/local/nvidia/lib64",
      "/usr/local/nvidia/lib",
      "/usr/lib/wsl/lib",
    ],
  },
};

const pythonVersions = ["3.12", "3.11", "3.10", "3.13", "3.14"];

/** The folders in which the wheels of the given Python may lie. */
export function sitePackagesOf(python: string): string[] {
  if (/\/(site|dist)-packages\/?$/.test(python)) return [python.replace(/\/$/, "")];
  const prefix = python.replace(/\/bin\/[^/]+$/, "").replace(/\/$/, "");
  return pythonVersions.flatMap((version) => [
    `${prefix}/lib/python${version}/site-packages`,
    `${prefix}/lib/python${version}/dist-packages`,
  ]);
}

/**
 * Every place where the library is looked for, in order: the explicit path alone when there is one;
 * else the environment variable (`SGLANG_RL_NCCL`, `SGLANG_RL_CUDART`, `SGLANG_RL_CUDA`), the given
 * Python's wheels, the system's usual folders. Needs no permission.
 */
export function libraryCandidates(
  name: LibraryName,
  options: LibraryOptions & { readonly environment?: (name: string) => string | undefined } = {},
): LibraryCandidate[] {
  const { fileNames, variable, wheelFolders, systemFolders } = facts[name];
  const explicit = options[name];
  if (explicit !== undefined) return [{ path: explicit, origin: `option libraries.${name}` }];
  const fromEnvironment = options.environment?.(variable);
  if (fromEnvironment) return [{ path: fromEnvironment, origin: `variable ${variable}` }];
  const found: LibraryCandidate[] = [];
  const inFolder = (folder: string, origin: string) => {
    for (const fileName of fileNames) found.push({ path: `${folder}/${fileName}`, origin });
  };
  if (options.python !== undefined) {
    for (const packages of sitePackagesOf(options.python)) {
      for (const folder of wheelFolders) {
        inFolder(`${packages}/${folder}`, "option libraries.python");
      }
    }
  }
  for (const folder of systemFolders) inFolder(folder, "system folder");
  return found;
}

/** An opened library: its functions, and the path it came from. It is never closed. */
export interface OpenLibrary<S extends Deno.ForeignLibraryInterface> {
  /** The functions. */
  readonly symbols: Deno.DynamicLibrary<S>["symbols"];
  /** Absolute path. */
  readonly path: string;
}

/**
 * Opens a library. It stays loaded for the life of the process, although Deno closes a Worker's
 * libraries when the Worker ends: NCCL and CUDA keep threads that an unloaded library would pull
 * the code from under, and NCCL holds a CUDA runtime of its own inside, whose device memory is lost
 * each time it is unloaded and loaded again.
 *
 * Permissions: `--allow-ffi=<path>` for the path that is opened; `--allow-env=SGLANG_RL_NCCL,…` is
 * used when granted and not missed when not.
 *
 * @throws {LibraryError} No place had it; the message lists every place with the reason.
 * @throws {PermissionError} Deno refused a library that may be there; the message lists every place
 * too, `flag` is the exact `--allow-ffi`.
 */
export function openLibrary<const S extends Deno.ForeignLibraryInterface>(
  name: LibraryName,
  symbols: S,
  options: LibraryOptions = {},
): OpenLibrary<S> {
  checkOptionNames(options, NAMES, "the native libraries");
  const tried: { path: string; reason: string }[] = [];
  const refused: string[] = [];
  for (const { path, origin } of libraryCandidates(name, { ...options, environment: readEnv })) {
    try {
      const { symbols: functions } = Deno.dlopen(path, symbols);
      Deno.dlopen(path, loaderSymbols).symbols.loadAgain(toCString(path), KEEP_LOADED);
      return { symbols: functions, path };
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable && mayExist(path)) refused.push(path);
      tried.push({ path, reason: `${reasonOf(error, path)} (${origin})` });
    }
  }
  const { fileNames, variable } = facts[name];
  const places = tried.map(({ path, reason }) => `  ${path}: ${reason}`).join("\n");
  const failure = `Could not open ${fileNames.join(" or ")}. Tried:\n${places}\n`;
  if (refused.length > 0) {
    const flag = `--allow-ffi=${refused.join(",")}`;
    throw new PermissionError(`${failure}Deno refused to open it; run again with ${flag}`, {
      flag,
    });
  }
  throw new LibraryError(
    `${failure}Give its path as libraries.${name} or in ${variable}, or the servers' Python as ` +
      `libraries.python, and run with --allow-ffi=<that path>`,
    { tried },
  );
}

function reasonOf(error: unknown, path: string): string {
  if (error instanceof Deno.errors.NotCapable) return `permission refused, --allow-ffi=${path}`;
  const text = messageOf(error);
  return text.replace(/^(Could not open library: )+/, "").replaceAll(`${path}: `, "");
}

/** False only when the file is known not to be there; without read permission it may be. */
function mayExist(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    return error instanceof Deno.errors.NotCapable;
  }
}

function readEnv(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch {
    return undefined;
  }
}
