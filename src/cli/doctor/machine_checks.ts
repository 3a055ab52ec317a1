/** Python, SGLang, the router, NCCL and GPUs. */
import { withDeadline } from "../../internal/deadline.ts";
import { broken, type Finding, fine, note } from "./finding.ts";

/** Prints versions of installed packages and the place of libnccl, without importing anything big. */
const program = `
import importlib.metadata as metadata, json, platform, glob, os, sysconfig
def version(name):
    try: return metadata.version(name)
    except metadata.PackageNotFoundError: return None
names = ["sglang", "sglang-router", "torch", "nvidia-nccl-cu13", "nvidia-nccl-cu12",
  "nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"]
found = {name: version(name) for name in names}
site = sysconfig.get_paths()["purelib"]
found["libnccl"] = next(iter(glob.glob(os.path.join(site, "nvidia", "nccl*", "lib", "libnccl.so.2"))), None)
print(json.dumps({"python": platform.python_version(), **found}))
`;
import { messageOf } from "../../internal/thrown.ts";

type Versions = Readonly<Record<string, string | null>>;

/** The Pythons and what is installed in them. */
export async function checkPythons(
  options: { python: string; routerPython: string; signal: AbortSignal },
): Promise<Finding[]> {
  const { python, routerPython, signal } = options;
  const asked = await ask(python, ["-c", program], signal);
  if (asked.text === null) {
    const isDenied = asked.problem.includes("--allow-run");
    return [
      (isDenied ? note : broken)(
        "python",
        `${python}: ${asked.problem}`,
        isDenied
          ? `add --allow-run=${python}; needed to start servers only`
          : "install Python 3.10 or newer with SGLang, or name one with --python",
      ),
    ];
  }
  const versions: Versions = JSON.parse(asked.text);
  const router = routerPython === python ? versions : await versionsOf(routerPython, signal);
  return [
    fine("python", `${python}, ${versions.python}`),
    installed(versions, "sglang", {
      advice: `${python} -m pip install sglang; not needed to use servers elsewhere`,
    }),
    installed(router, "sglang-router", {
      advice: `${routerPython} -m pip install sglang-router; needed for several replicas`,
    }),
    installed(versions, "torch", { advice: "comes with sglang" }),
    nccl(versions),
  ];
}

function installed(versions: Versions, name: string, options: { advice: string }): Finding {
  const version = versions[name];
  return version ? fine(name, version) : note(name, "not installed", options.advice);
}

function nccl(versions: Versions): Finding {
  const version = versions["nvidia-nccl-cu13"] ?? versions["nvidia-nccl-cu12"];
  if (!version) {
    return note(
      "libnccl",
      "no nvidia-nccl package in that Python",
      "weights can still travel by --transport disk, or by gloo to servers on a CPU",
    );
  }
  return fine("libnccl", `${version}, ${versions.libnccl ?? "library not found in the package"}`);
}

async function versionsOf(python: string, signal: AbortSignal): Promise<Versions> {
  const { text } = await ask(python, ["-c", program], signal);
  return text === null ? {} : JSON.parse(text);
}

/** GPUs and driver. */
export async function checkGpus(signal: AbortSignal): Promise<Finding[]> {
  const query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"];
  const { text, problem } = await ask("nvidia-smi", query, signal);
  if (text === null) {
    return [note("GPU", problem, "without a GPU: serve --device cpu, or serve --embedded")];
  }
  return text.trim().split("\n").map((line, i) => fine(`GPU ${i}`, line));
}

/** What a program prints, or why it cannot. */
async function ask(
  command: string,
  args: string[],
  signal: AbortSignal,
): Promise<{ text: string; problem: "" } | { text: null; problem: string }> {
  const failed = (problem: string) => ({ text: null, problem });
  try {
    return await withDeadline({ phase: `run ${command}`, timeoutMs: 20_000, signal }, async (s) => {
      // An inherited LD_LIBRARY_PATH alone makes Deno refuse to start a program.
      const env = { LD_LIBRARY_PATH: "" };
      const { success, stdout, stderr } = await new Deno.Command(command, {
        args,
        env,
        stdin: "null",
        signal: s,
      }).output();
      const decoder = new TextDecoder();
      if (success) return { text: decoder.decode(stdout), problem: "" as const };
      return failed(decoder.decode(stderr).trim().split("\n").at(-1) ?? "it failed");
    });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return failed(`there is no ${command} here`);
    if (error instanceof Deno.errors.NotCapable) return failed("may not be run (--allow-run)");
    return failed(messageOf(error));
  }
}
