import { LimitError } from "../errors.ts";
import { throwIfAborted } from "./deadline.ts";
import { systemCodeOf } from "./exhausted.ts";
import { orAborted } from "./or_aborted.ts";
import { asPermissionError } from "./permission.ts";
import { type FileInfo, isSystemError, runtime } from "../runtime/mod.ts";

/** What the system says of a path, in words that follow the path. */
const problems: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EISDIR: "is a folder, where a file is expected",
  ENOTDIR: "lies in something that is no folder",
  ELOOP: "is a loop of symbolic links",
  EACCES: "may not be read by this user: check its rights and those of its folders",
  EPERM: "may not be read by this user: check its rights and those of its folders",
  EIO: "cannot be read: the disk or the network below it fails",
  ESTALE: "cannot be read: the network file system below it was replaced",
  ENAMETOOLONG: "has too long a name",
  EINVAL: "is no path that the system takes",
};

/** How a file is read. */
export interface FileReadOptions {
  /** Makes the error for a file that is not what is expected. */
  readonly refuse: (message: string, options?: ErrorOptions) => Error;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Looks at a path before anything is opened: to open a pipe waits for its other end, and a device
 * may never end.
 *
 * @throws {Error} What `refuse` makes: when it is no regular file or cannot be looked at.
 */
export async function lookAtFile(path: string, options: FileReadOptions): Promise<FileInfo> {
  const info = await lookAt(path, options);
  if (info.isFile) return info;
  throw options.refuse(`${path} is ${kindOf(info)}, where a file is expected`);
}

/** Looks at a path, whatever it is. */
export async function lookAt(path: string, options: FileReadOptions): Promise<FileInfo> {
  const { signal } = options;
  throwIfAborted(signal, `look at ${path}`);
  try {
    // A network file system that does not answer must not hold the caller.
    return await (signal === undefined
      ? runtime().stat(path)
      : orAborted(runtime().stat(path), signal));
  } catch (error) {
    throwIfAborted(signal, `look at ${path}`);
    throw asFileError(error, path, options);
  }
}

/**
 * Reads a whole regular file of at most `maxBytes`: as many bytes as it says that it has, so that one
 * that grows while it is read, or one of `/proc`, which tells no size and may never end, is not followed.
 *
 * @throws {LimitError} When it is larger, before anything is read.
 * @throws {Error} What `refuse` makes: when it is no regular file, or changed while it was read.
 */
export async function readRegularFile(
  path: string,
  options: FileReadOptions & { readonly limit: string; readonly maxBytes: number },
): Promise<Uint8Array<ArrayBuffer>> {
  const { limit, maxBytes: max, signal } = options;
  await lookAtFile(path, options);
  try {
    using file = await runtime().open(path);
    const { size, isFile } = await file.stat();
    if (!isFile) throw options.refuse(`${path} is no regular file any more`);
    if (size > max) {
      throw new LimitError(`${path} has ${size} bytes, more than ${limit}, ${max}`, { limit, max });
    }
    const bytes = new Uint8Array(size);
    for (let filled = 0; filled < size;) {
      throwIfAborted(signal, `read ${path}`);
      const reading = file.read(bytes.subarray(filled, filled + READ_BYTES));
      const length = await (signal === undefined ? reading : orAborted(reading, signal));
      if (length === null) throw options.refuse(`${path} became shorter while it was read`);
      filled += length;
    }
    return bytes;
  } catch (error) {
    throwIfAborted(signal, `read ${path}`);
    throw asFileError(error, path, options);
  }
}

/** Bytes that are read at once: between two reads a signal is looked at. */
const READ_BYTES = 4 * 2 ** 20;

/** Another text once somebody has written to a file or put another in its place. */
export async function stampOf(path: string): Promise<string> {
  const { size, mtime, ctime, ino, dev } = await runtime().stat(path);
  // The time of the last write can be set to any; that of the last change cannot.
  return JSON.stringify([size, mtime?.getTime(), ctime?.getTime(), ino, dev]);
}

/** An error of ours for what the system says when a path is opened or read. */
export function asFileError(error: unknown, path: string, options: FileReadOptions): unknown {
  const problem = problems[systemCodeOf(error) ?? ""];
  if (problem !== undefined && !isSystemError(error, "NotCapable")) {
    return options.refuse(`${path} ${problem}`, { cause: error });
  }
  return asPermissionError(error, `--allow-read=${path}`, `read ${path}`);
}

/** Whether an error of {@linkcode asFileError} says that there is no such file. */
export function isMissingFile(error: unknown): boolean {
  const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
  return ["ENOENT", "ENOTDIR"].includes(systemCodeOf(cause) ?? "");
}

function kindOf(info: FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isFifo) return "a pipe";
  if (info.isSocket) return "a socket";
  if (info.isCharDevice || info.isBlockDevice) return "a device";
  return "no regular file";
}
