/**
 * The Python to use: the one that was given, else the first of the variables that is set, else the
 * active virtual environment's, else `python3` from the `PATH`. A variable that Deno may not read
 * counts as not set: asking for it would stop the program at a prompt.
 */
export async function findPython(
  given: string | undefined,
  variables: readonly string[],
): Promise<string> {
  if (given !== undefined) return given;
  for (const variable of variables) {
    const python = await readAllowed(variable);
    if (python) return python;
  }
  const environment = await readAllowed("VIRTUAL_ENV");
  return environment ? `${environment}/bin/python` : "python3";
}

async function readAllowed(variable: string): Promise<string | undefined> {
  const { state } = await Deno.permissions.query({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}
