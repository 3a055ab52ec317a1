import { grantedEnv } from "../internal/permission.ts";

/**
 * The Python to use: the one that was given, else the first of the variables that is set, else the
 * active virtual environment's, else `python3` from the `PATH`. A variable that Deno may not read
 * counts as not set: asking for it would stop the program at a prompt.
 */
export function findPython(
  given: string | undefined,
  variables: readonly string[],
  env: (name: string) => string | undefined = grantedEnv,
): string {
  if (given !== undefined) return given;
  for (const variable of variables) {
    const python = env(variable);
    if (python) return python;
  }
  const environment = env("VIRTUAL_ENV");
  return environment ? `${environment}/bin/python` : "python3";
}
