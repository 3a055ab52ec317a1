import { CheckpointError, StateError } from "../errors.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { asPermissionError } from "../internal/permission.ts";
import { Semaphore } from "../internal/semaphore.ts";

/** Files open at once. */
const MAX_OPEN = 8;
/** Bytes between two looks at the signal. Linux itself reads at most 2 GiB at once. */
const READ_BYTES = 32 * 1024 * 1024;

/** What tells one version of a file from another. */
export interface FileIdentity {
  /** Size in bytes. */
  readonly size: number;
  /** Inode number, where the system has one. */
  readonly ino: number | null;
  /** Last change, in milliseconds. */
  readonly mtimeMs: number | null;
}

interface OpenFile {
  readonly path: string;
  readonly file: Deno.FsFile;
}

/** Reads at positions of many files, several at once, with few of them open. */
export class FilePool {
  readonly #permits = new Semaphore(MAX_OPEN);
  readonly #idle: OpenFile[] = [];
  readonly #identities = new Map<string, FileIdentity>();
  #closed = false;

  /** Looks at a file and remembers which version of it is meant. */
  async stat(path: string, signal?: AbortSignal): Promise<FileIdentity> {
    using _permit = await this.#permits.acquire(signal);
    const open = await this.#open(path);
    this.#release(open);
    return this.#identities.get(path)!;
  }

  /** Fills `target` with the bytes of the file from `position` on. */
  async read(
    path: string,
    target: Uint8Array,
    options: { position: number; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { position, signal } = options;
    using _permit = await this.#permits.acquire(signal);
    const open = await this.#open(path);
    try {
      await open.file.seek(position, Deno.SeekMode.Start);
      for (let filled = 0; filled < target.length;) {
        throwIfAborted(signal, `read ${path}`);
        const length = await open.file.read(target.subarray(filled, filled + READ_BYTES));
        if (length === null) throw changed(path, "it ended early");
        filled += length;
      }
    } finally {
      this.#release(open);
    }
  }

  /** Closes the files; reads under way end by themselves. */
  close(): void {
    this.#closed = true;
    for (const { file } of this.#idle.splice(0)) file.close();
  }

  async #open(path: string): Promise<OpenFile> {
    if (this.#closed) throw new StateError("Checkpoint is closed");
    const index = this.#idle.findIndex((open) => open.path === path);
    if (index >= 0) return this.#idle.splice(index, 1)[0]!;
    const file = await openFile(path);
    try {
      this.#identify(path, await file.stat());
      return { path, file };
    } catch (error) {
      file.close();
      throw error;
    }
  }

  #identify(path: string, info: Deno.FileInfo): void {
    const { size, ino, mtime } = info;
    if (!info.isFile) throw new CheckpointError(`${path} is no regular file`);
    const known = this.#identities.get(path);
    const identity = { size, ino, mtimeMs: mtime?.getTime() ?? null };
    if (known === undefined) this.#identities.set(path, identity);
    else if (known.size !== size || known.ino !== ino || known.mtimeMs !== identity.mtimeMs) {
      throw changed(path, "it was replaced or written to");
    }
  }

  #release(open: OpenFile): void {
    if (this.#closed) {
      open.file.close();
      return;
    }
    this.#idle.push(open);
    if (this.#idle.length > MAX_OPEN) this.#idle.shift()!.file.close();
  }
}

async function openFile(path: string): Promise<Deno.FsFile> {
  try {
    return await Deno.open(path, { read: true });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new CheckpointError(`${path} does not exist`, { cause: error });
    }
    throw asPermissionError(error, `--allow-read=${path}`, `read ${path}`);
  }
}

function changed(path: string, how: string): CheckpointError {
  return new CheckpointError(
    `${path} changed while it was being read: ${how}. Open the checkpoint again once its writer ` +
      `is done`,
  );
}
