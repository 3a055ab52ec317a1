import { exists, readStamp, stampOf, writeStamp } from "./stamp.ts";
import { join } from "node:path";
import { type BasePython, makeEnvironment } from "./python.ts";
import { lastWords, run } from "./run.ts";
import { SetupError } from "./setup_error.ts";

/** A virtual environment of the recipe. */
export interface EnvironmentRecipe {
  /** Name of its folder inside the home. */
  readonly name: string;
  /** What it holds, for people. */
  readonly title: string;
  /** File with the pinned packages, the full closure. */
  readonly lock: string;
  /** Modules that must import, and the package whose version is shown. */
  readonly imports: readonly string[];
  /** Folder of a Python package to put beside the installed ones, when the real one is missing. */
  readonly shim?: string;
  /** Disk that an installation takes, with its downloads. */
  readonly diskBytes: number;
}

/** Context of a set-up. */
export interface SetupContext {
  readonly home: string;
  readonly base: () => Promise<BasePython>;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal | undefined;
}

/** Checks pins and imports; prints what is wrong, nothing when all is well. */
const checkProgram = `
import importlib, importlib.metadata as metadata, sys
lock, *modules = sys.argv[1:]
wrong = []
for line in open(lock):
    name, _, version = line.strip().partition("==")
    if not version: continue
    try: found = metadata.version(name)
    except metadata.PackageNotFoundError: found = "not installed"
    if found != version: wrong.append("%s is %s instead of %s" % (name, found, version))
for module in [] if wrong else modules:
    try: importlib.import_module(module)
    except Exception as error: wrong.append("import %s: %r" % (module, error))
for problem in wrong: print("PROBLEM", problem)
print("CHECKED")
`;

/**
 * Makes sure that an environment is there. A finished one is known by its stamp; one without a
 * stamp is checked and, when good, taken over as it is; an unfinished one is completed.
 */
export async function ensureEnvironment(
  recipe: EnvironmentRecipe,
  context: SetupContext,
): Promise<void> {
  const folder = join(context.home, recipe.name);
  const python = join(folder, "bin", "python");
  const stamp = await stampOf(recipe);
  const works = await runs(python);
  if (works && await readStamp(folder) === stamp) return;
  if (works) {
    context.say(`${recipe.title}: checking what is in ${folder}`);
    await installShim(recipe, python);
    const problems = await check(recipe, python, context.signal);
    if (problems.length === 0) {
      await writeStamp(folder, stamp);
      context.say(`${recipe.title}: complete, nothing to install`);
      return;
    }
    context.say(`${recipe.title}: not complete (${problems.length} differences), going on`);
  }
  await install(recipe, context, { folder, python });
  await installShim(recipe, python);
  const problems = await check(recipe, python, context.signal);
  if (problems.length > 0) {
    throw new SetupError(`${recipe.title} does not work after its installation: ${problems[0]}`);
  }
  await writeStamp(folder, stamp);
  context.say(`${recipe.title}: ready`);
}

async function install(
  recipe: EnvironmentRecipe,
  context: SetupContext,
  { folder, python }: { folder: string; python: string },
): Promise<void> {
  const { say, signal } = context;
  const base = await context.base();
  if (base.warning) say(`warning: ${base.warning}`);
  await checkDisk(recipe, context.home);
  if (!await runs(python)) {
    // A folder whose Python does not run is of no use to pip either.
    if (await exists(folder)) await Deno.remove(folder, { recursive: true });
    await makeEnvironment(folder, base, signal);
  }
  const total =
    (await Deno.readTextFile(recipe.lock)).split("\n").filter((l) => l.includes("==")).length;
  say(`${recipe.title}: installing ${total} packages into ${folder}`);
  // Downloads are kept until the end, so that a set-up that was cut off goes on where it was.
  const cache = join(context.home, ".downloads");
  const progress = pipProgress(recipe.title, total, say);
  const result = await run(
    [
      python,
      "-m",
      "pip",
      "install",
      "--no-deps",
      "--no-input",
      "--disable-pip-version-check",
      "--progress-bar=off",
      `--cache-dir=${cache}`,
      "-r",
      recipe.lock,
    ],
    { onLine: progress, signal },
  );
  if (!result.success) {
    throw new SetupError(
      `pip could not install ${recipe.title}: ${lastWords(result)} ` +
        "(run the set-up again to go on; what is downloaded stays)",
    );
  }
  await Deno.remove(cache, { recursive: true }).catch(() => {});
}

/** Turns pip's many lines into few. */
export function pipProgress(
  title: string,
  total: number,
  say: (line: string) => void,
): (line: string) => void {
  let collected = 0;
  return (line) => {
    if (/^(Collecting|Requirement already satisfied:) /.test(line)) {
      collected++;
      if (collected % 20 === 0 || collected === total) say(`${title}: ${collected} of ${total}`);
    }
    const large = /^\s*Downloading (\S+) \(([\d.]+) (MB|GB)\)/.exec(line);
    if (large !== null && (large[3] === "GB" || Number(large[2]) >= 50)) {
      const file = large[1]!.split("/").at(-1)!;
      say(`${title}: downloading ${file.split("-")[0]} (${large[2]} ${large[3]})`);
    }
    if (line.startsWith("Installing collected packages")) say(`${title}: unpacking`);
  };
}

async function checkDisk(recipe: EnvironmentRecipe, home: string): Promise<void> {
  const { statfs } = await import("node:fs/promises");
  const stats = await statfs(home);
  const free = stats.bavail * stats.bsize;
  if (free >= recipe.diskBytes) return;
  const gb = (bytes: number) => (bytes / 1e9).toFixed(1);
  throw new SetupError(
    `${recipe.title} needs ${gb(recipe.diskBytes)} GB in ${home}, where ${gb(free)} GB are free: ` +
      "make room, or set SGLANG_CPU_HOME to another folder",
  );
}

async function check(
  recipe: EnvironmentRecipe,
  python: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const { lines } = await run([python, "-c", checkProgram, recipe.lock, ...recipe.imports], {
    env: { SGLANG_USE_CPU_ENGINE: "1", CUDA_VISIBLE_DEVICES: "", PYTHONPATH: null },
    signal,
  });
  const problems = lines.filter((line) => line.startsWith("PROBLEM "));
  if (!lines.includes("CHECKED")) problems.push(`PROBLEM ${lines.at(-1) ?? "no output"}`);
  return problems.map((line) => line.slice("PROBLEM ".length));
}

async function installShim(recipe: EnvironmentRecipe, python: string): Promise<void> {
  if (recipe.shim === undefined) return;
  const name = recipe.shim.split("/").at(-1)!;
  const { lines } = await run([
    python,
    "-c",
    "import sysconfig; print(sysconfig.get_paths()['purelib'])",
  ]);
  const target = join(lines.at(-1)!, name);
  if (await exists(target)) return;
  await Deno.mkdir(target);
  for await (const file of Deno.readDir(recipe.shim)) {
    if (file.isFile) await Deno.copyFile(join(recipe.shim, file.name), join(target, file.name));
  }
}

async function runs(python: string): Promise<boolean> {
  try {
    const { success } = await new Deno.Command(python, {
      args: ["-c", "import pip"],
      stdout: "null",
      stderr: "null",
    }).output();
    return success;
  } catch {
    return false;
  }
}
