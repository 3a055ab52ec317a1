import { PermissionError } from "../errors.ts";
import { asExhaustedError } from "./exhausted.ts";
import { isSystemError, runtime } from "../runtime/mod.ts";

/** Runs `work`; a permission that Deno refuses becomes an error that names the flag to add. */
export async function namingPermission<T>(
  flag: string,
  purpose: string,
  work: () => T | PromiseLike<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw asPermissionError(error, flag, purpose);
  }
}

/**
 * The same error, or a {@linkcode PermissionError} when Deno refused a permission, or an
 * `ExhaustedError` when the system has no more of something: both come wherever we leave Deno.
 */
export function asPermissionError(error: unknown, flag: string, purpose: string): unknown {
  if (!isSystemError(error, "NotCapable")) return asExhaustedError(error, purpose);
  return new PermissionError(
    `Deno refused permission to ${purpose}; run again with ${flag}`,
    { cause: error, flag },
  );
}

/** Reads a variable only where that asks nobody for permission. */
export function grantedEnv(name: string): string | undefined {
  const program = runtime();
  return program.isGranted({ name: "env", variable: name }) ? program.env(name) : undefined;
}
