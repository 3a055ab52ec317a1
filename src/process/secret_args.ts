/** Flags whose values are secrets, by their names. */
const SECRET_FLAG = /api-key|password|secret|credential|private-key|watermark-key|-token$|db-url/;
/** An address with a password in it. */
const SECRET_VALUE = /:\/\/[^/@\s:]*:[^/@\s]*@/;

/**
 * Runs a Python module with the arguments that everybody may see, and those on its standard input.
 * Nothing of the second is in the list of processes or in the environment. The module's own
 * children start as they do with `python -m`.
 */
const LAUNCHER = "import json, os, runpy, sys; " +
  "hidden = json.loads(sys.stdin.buffer.read()); " +
  "os.dup2(os.open(os.devnull, os.O_RDONLY), 0); " +
  "sys.argv[:] = [sys.argv[1], *hidden, *sys.argv[2:]]; " +
  "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)";

/** How to run a Python module without showing its secrets. */
export interface ModuleCommand {
  /** Arguments for Python. */
  readonly args: readonly string[];
  /** What the program reads from its standard input; `undefined` where nothing is secret. */
  readonly input: string | undefined;
  /** The secrets, to keep them out of logs. */
  readonly secrets: readonly string[];
}

/** The command for a Python module, with everything secret moved from its arguments to its input. */
export function moduleCommand(module: string, args: readonly string[]): ModuleCommand {
  const groups: string[][] = [];
  for (const arg of args) {
    if (arg.startsWith("--") || groups.length === 0) groups.push([arg]);
    else groups.at(-1)!.push(arg);
  }
  const hidden = groups.filter(isSecret).flat();
  const open = groups.filter((group) => !isSecret(group)).flat();
  const secrets = groups.filter(isSecret).flatMap(valuesOf);
  if (hidden.length === 0) return { args: ["-m", module, ...open], input: undefined, secrets };
  return { args: ["-c", LAUNCHER, module, ...open], input: JSON.stringify(hidden), secrets };
}

/** Whether a flag with its values may not be seen. */
function isSecret(group: readonly string[]): boolean {
  const [name] = group[0]!.split("=");
  return SECRET_FLAG.test(name!) || valuesOf(group).some((value) => SECRET_VALUE.test(value));
}

function valuesOf([first, ...rest]: readonly string[]): string[] {
  const equals = first!.indexOf("=");
  return equals < 0 ? rest : [first!.slice(equals + 1), ...rest];
}
