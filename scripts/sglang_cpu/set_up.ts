import { join } from "node:path";
import { ensureEnvironment, type EnvironmentRecipe, type SetupContext } from "./environment.ts";
import { environmentName, routerEnvironmentName, type SGLangVersion } from "./home.ts";
import { ensureModels } from "./models.ts";
import { type BasePython, findBasePython } from "./python.ts";
import { SetupError } from "./setup_error.ts";

const here = (name: string): string => new URL(name, import.meta.url).pathname;

const gb = 1e9;

const recipes: Record<SGLangVersion, EnvironmentRecipe> = {
  "0.5.16": {
    name: environmentName("0.5.16"),
    title: "SGLang 0.5.16",
    lock: here("requirements-0.5.16.lock"),
    imports: ["torch", "transformers", "sgl_kernel", "sglang"],
    shim: here("shim/sgl_kernel"),
    diskBytes: 8 * gb,
  },
  "0.5.23": {
    name: environmentName("0.5.23"),
    title: "SGLang 0.5.23",
    lock: here("requirements-0.5.23.lock"),
    imports: ["torch", "transformers", "sgl_kernel", "sglang"],
    shim: here("shim/sgl_kernel"),
    diskBytes: 9.5 * gb,
  },
};

// Beside SGLang its launcher would import all of it, which takes half a minute.
const routerRecipe: EnvironmentRecipe = {
  name: routerEnvironmentName,
  title: "SGLang router 0.3.2",
  lock: here("requirements-router-0.3.2.lock"),
  imports: ["sglang_router"],
  diskBytes: 0.5 * gb,
};

/** What to set up, and where. */
export interface SetUpOptions {
  /** Versions of SGLang. The router and the checkpoints come with each. */
  readonly versions: readonly SGLangVersion[];
  /** Folder to install into. */
  readonly home: string;
  /** Python to make the environments with. Default python3.11, python3. */
  readonly python?: string | undefined;
  /** Told what happens, when something does. */
  readonly say: (line: string) => void;
  /** Cancellation; what is downloaded stays. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Installs the real SGLang for a CPU. What is there already and whole is left as it is, so that a
 * second run takes a moment. Only one set-up at a time works on a folder; another one waits.
 *
 * @throws {SetupError} with one line on what is missing.
 */
export async function setUp(options: SetUpOptions): Promise<void> {
  const { home } = options;
  using context = await beginSetUp(options);
  for (const version of options.versions) await ensureEnvironment(recipes[version], context);
  await ensureEnvironment(routerRecipe, context);
  const [first] = options.versions;
  if (first === undefined) return;
  await ensureModels(join(home, environmentName(first), "bin", "python"), context);
}

/** Makes the folder to install into and waits until no other set-up works on it. */
export async function beginSetUp(
  options: Omit<SetUpOptions, "versions">,
): Promise<SetupContext & Disposable> {
  const { home, say, signal } = options;
  await makeHome(home);
  const turn = await waitForTurn(home, say, signal);
  let base: Promise<BasePython> | undefined;
  return {
    home,
    base: () => base ??= findBasePython(options.python),
    say,
    signal,
    [Symbol.dispose]: () => turn[Symbol.dispose](),
  };
}

/** Makes the folder to install into. */
async function makeHome(home: string): Promise<void> {
  try {
    await Deno.mkdir(home, { recursive: true });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new SetupError(`Cannot make the folder ${home} (${why}): set SGLANG_CPU_HOME to another`);
  }
}

/** One set-up at a time works on a folder; the system gives the lock back when its holder ends, however it ends. */
async function waitForTurn(
  home: string,
  say: (line: string) => void,
  signal: AbortSignal | undefined,
): Promise<Disposable> {
  const file = await Deno.open(join(home, ".setup.lock"), { create: true, write: true });
  let told = false;
  try {
    while (!await file.tryLock(true)) {
      if (!told) say(`waiting for another set-up of ${home} to end`);
      told = true;
      await new Promise((resolve) => setTimeout(resolve, 500));
      signal?.throwIfAborted();
    }
  } catch (error) {
    file.close();
    throw error;
  }
  return file;
}
