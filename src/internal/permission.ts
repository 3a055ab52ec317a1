import { PermissionError, ValidationError } from "../errors.ts";
import { asExhaustedError, systemCodeOf } from "./exhausted.ts";
import { messageOf } from "./thrown.ts";
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

/** What the system says of a path that it cannot take, in words that follow what was to be done. */
const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder, or the folder that it should be in is not there",
  EISDIR: "it is a folder",
  ENOTDIR: "a part of its path is no folder",
  ENOTEMPTY: "the folder is not empty",
  EEXIST: "it is there already",
  ELOOP: "it is a loop of symbolic links",
  ENAMETOOLONG: "its name is too long",
  EINVAL: "the system does not take its path, or cannot do this with it",
  EACCES: "this user may not: check its rights and those of its folders",
  EPERM: "this user may not: check its rights and those of its folders",
  EROFS: "its file system can only be read",
  EXDEV: "it lies on another disk",
  EFBIG: "it would be larger than its file system, or `ulimit -f`, allows",
  ENXIO: "nobody reads it: it is a pipe or a device",
  EIO: "its disk, or the network below it, fails",
  ESTALE: "the network file system below it was replaced",
  EBUSY: "something else uses it",
  ETXTBSY: "it is a program that runs",
};

/**
 * An error of ours for what the system says when we leave Deno: a {@linkcode PermissionError} when
 * Deno refused a permission, an `ExhaustedError` when there is no more of something, a
 * {@linkcode ValidationError} when a path cannot be taken. Others stay the same.
 */
export function asPermissionError(error: unknown, flag: string, purpose: string): unknown {
  if (!isSystemError(error, "NotCapable")) {
    // Of an address the system says the same about other things.
    const isPath = !flag.startsWith("--allow-net");
    const code = systemCodeOf(error);
    const known = asExhaustedError(error, purpose);
    if (!isPath || known !== error || !/^E[A-Z0-9]+$/.test(code ?? "")) return known;
    const reason = reasons[code!] ?? `the system says ${code}: ${messageOf(error)}`;
    return new ValidationError(`Cannot ${purpose}: ${reason}`, { cause: error });
  }
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
