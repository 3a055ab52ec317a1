import { StateError, ValidationError } from "../errors.ts";
import { isSystemError } from "../runtime/mod.ts";
import { inBrackets } from "./hostname.ts";
import { asPermissionError } from "./permission.ts";

/** What the system says of an address that this machine does not have, or of a name of none. */
const NO_ADDRESS = /lookup address|invalid host|ENOTFOUND|EAI_|EINVAL|empty label/;

/**
 * An error of ours for what the system says when we listen: a {@linkcode StateError} that names the
 * port when another program has it, a {@linkcode ValidationError} when the address is none of this
 * machine, a `PermissionError` when Deno refused. Others stay the same.
 */
export function asListenError(
  error: unknown,
  { hostname, port }: { readonly hostname: string; readonly port: number },
): unknown {
  const cause = error;
  if (isSystemError(error, "AddrInUse")) {
    return new StateError(
      `Port ${port} of ${hostname} is taken by another program: stop it, or choose another port`,
      { cause },
    );
  }
  const isElsewhere = isSystemError(error, "AddrNotAvailable") ||
    (error instanceof Error && NO_ADDRESS.test(error.message));
  if (isElsewhere) {
    return new ValidationError(`${hostname} is not an address of this machine`, { cause });
  }
  const address = `${inBrackets(hostname)}:${port}`;
  return asPermissionError(error, `--allow-net=${address}`, `listen on ${address}`);
}
