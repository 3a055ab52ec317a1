import { run } from "./run.ts";
import { SetupError } from "./setup_error.ts";

/** The version that the locks were made with. */
const lockedFor = "3.11";

/** A Python to make environments with, and a warning when the locks were not made for it. */
export interface BasePython {
  readonly path: string;
  readonly version: string;
  readonly warning: string | undefined;
}

/**
 * The Python to make environments with: `given`, else the first of python3.11 and python3 that fits.
 *
 * @throws {SetupError} when there is none.
 */
export async function findBasePython(given: string | undefined): Promise<BasePython> {
  const candidates = given === undefined ? ["python3.11", "python3"] : [given];
  const seen: string[] = [];
  let second: BasePython | undefined;
  for (const path of candidates) {
    const version = await versionOf(path);
    if (version === undefined) continue;
    seen.push(`${path} is ${version}`);
    const minor = Number(version.split(".")[1]);
    if (version.startsWith(`${lockedFor}.`)) return { path, version, warning: undefined };
    if (version.startsWith("3.") && minor >= 11) {
      const warning = `${path} is Python ${version}; the locks were made for ${lockedFor}`;
      second ??= { path, version, warning };
    }
  }
  if (second !== undefined) return second;
  throw new SetupError(
    `Python ${lockedFor} is needed, and ${
      seen.join(", ") || `there is no ${candidates.at(-1)}`
    }: ` +
      "install it, or name it with --python",
  );
}

async function versionOf(python: string): Promise<string | undefined> {
  try {
    const { success, stdout } = await new Deno.Command(python, {
      args: ["-c", "import platform; print(platform.python_version())"],
      stderr: "null",
    }).output();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Makes a virtual environment, or puts a damaged one right; what is installed in it stays.
 *
 * @throws {SetupError} when Python's venv module is not there.
 */
export async function makeEnvironment(
  folder: string,
  base: BasePython,
  signal: AbortSignal | undefined,
): Promise<void> {
  const result = await run([base.path, "-m", "venv", folder], { signal });
  if (result.success) return;
  const missing = result.lines.some((line) => /ensurepip|No module named venv/.test(line));
  throw new SetupError(
    missing
      ? `${base.path} has no venv module: install it (on Debian and Ubuntu: apt install python3-venv)`
      : `Cannot make the virtual environment ${folder}: ${
        result.lines.at(-1) ?? "no reason given"
      }`,
  );
}
