import { runtime } from "../runtime/mod.ts";
/** Reads a variable only where that asks nobody for permission. */
export function grantedEnv(name: string): string | undefined {
  const program = runtime();
  return program.isGranted({ name: "env", variable: name }) ? program.env(name) : undefined;
}
