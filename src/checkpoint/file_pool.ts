import { CheckpointError, StateError } from "../errors.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { forEachAtOnce } from "../internal/at_once.ts";
import { asFileError, lookAtFile } from "../internal/regular_file.ts";
import { Semaphore } from "../internal/semaphore.ts";
import {
  type FileInfo,
  isSystemError,
  type OpenFile as RuntimeFile,
  runtime,
} from "../runtime/mod.ts";

/** Reads under way at once; one thread reads cached files at a fraction of the memory's rate. */
export const READS_AT_ONCE = 8;
/** Larger reads are split into pieces of this size, which are read at once. */
const PIECE_BYTES = 16 * 1024 * 1024;

/** What tells one version of a file from another. */
export interface FileIdentity {
  /** Size in bytes. */
  readonly size: number;
  /** Inode number, where the system has one. */
  readonly ino: number | null;
  /** Last change of the content, in milliseconds. */
  readonly mtimeMs: number | null;
  /** Last change of content or file, which cannot be set back; Deno tells whole seconds. */
  readonly ctimeMs: number | null;
}

interface OpenFile {
  readonly path: string;
  readonly file: RuntimeFile;
}

/** Reads at positions of many files, several at once, with few of them open. */
export class FilePool {
  readonly #permits = new Semaphore(READS_AT_ONCE);
  readonly #idle: OpenFile[] = [];
  readonly #identities = new Map<string, FileIdentity>();
  #closed = false;

  /** Looks at a file and remembers which version of it is meant. */
  async stat(path: string, signal?: AbortSignal): Promise<FileIdentity> {
    using _permit = await this.#permits.acquire(signal);
    const open = await this.#open(path, signal);
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
    if (target.length <= PIECE_BYTES) return await this.#readPiece(path, target, options);
    const starts = Array.from(
      { length: Math.ceil(target.length / PIECE_BYTES) },
      (_, i) => i * PIECE_BYTES,
    );
    await forEachAtOnce(starts, { limit: READS_AT_ONCE, signal }, (start, inner) => {
      const piece = target.subarray(start, start + PIECE_BYTES);
      return this.#readPiece(path, piece, { position: position + start, signal: inner });
    });
  }

  async #readPiece(
    path: string,
    target: Uint8Array,
    options: { position: number; signal?: AbortSignal | undefined },
  ): Promise<void> {
    const { position, signal } = options;
    using _permit = await this.#permits.acquire(signal);
    const open = await this.#open(path, signal);
    try {
      await open.file.seek(position, 0);
      for (let filled = 0; filled < target.length;) {
        throwIfAborted(signal, `read ${path}`);
        const length = await open.file.read(target.subarray(filled));
        if (length === null) throw changed(path, "it ended early");
        filled += length;
      }
    } catch (error) {
      throw asFileError(error, path, { refuse });
    } finally {
      this.#release(open);
    }
  }

  /**
   * Looks at every file again, by its path: one that was written to in place, replaced or removed
   * since it was first looked at makes a `CheckpointError`.
   */
  async confirm(signal?: AbortSignal): Promise<void> {
    await forEachAtOnce([...this.#identities], { limit: READS_AT_ONCE, signal }, async (entry) => {
      const [path, known] = entry;
      const info = await runtime().stat(path).catch((error) => {
        if (isSystemError(error, "NotFound")) throw changed(path, "it is gone");
        throw asFileError(error, path, { refuse });
      });
      if (!isSame(known, identityOf(info))) throw changed(path, "it was replaced or written to");
    });
  }

  /** Closes the files; reads under way end by themselves. */
  close(): void {
    this.#closed = true;
    for (const { file } of this.#idle.splice(0)) file.close();
  }

  async #open(path: string, signal: AbortSignal | undefined): Promise<OpenFile> {
    if (this.#closed) throw new StateError("Checkpoint is closed");
    const index = this.#idle.findIndex((open) => open.path === path);
    if (index >= 0) return this.#idle.splice(index, 1)[0]!;
    const file = await openFile(path, signal);
    try {
      this.#identify(path, await file.stat());
      return { path, file };
    } catch (error) {
      file.close();
      throw asFileError(error, path, { refuse });
    }
  }

  #identify(path: string, info: FileInfo): void {
    if (!info.isFile) throw new CheckpointError(`${path} is no regular file`);
    const known = this.#identities.get(path);
    const identity = identityOf(info);
    if (known === undefined) this.#identities.set(path, identity);
    else if (!isSame(known, identity)) throw changed(path, "it was replaced or written to");
  }

  #release(open: OpenFile): void {
    if (this.#closed) {
      open.file.close();
      return;
    }
    this.#idle.push(open);
    if (this.#idle.length > READS_AT_ONCE) this.#idle.shift()!.file.close();
  }
}

function identityOf({ size, ino, mtime, ctime }: FileInfo): FileIdentity {
  return { size, ino, mtimeMs: mtime?.getTime() ?? null, ctimeMs: ctime?.getTime() ?? null };
}

function isSame(a: FileIdentity, b: FileIdentity): boolean {
  return a.size === b.size && a.ino === b.ino && a.mtimeMs === b.mtimeMs && a.ctimeMs === b.ctimeMs;
}

const refuse = (message: string, options?: ErrorOptions) => new CheckpointError(message, options);

async function openFile(path: string, signal: AbortSignal | undefined): Promise<RuntimeFile> {
  await lookAtFile(path, { refuse, signal });
  try {
    return await runtime().open(path, { read: true });
  } catch (error) {
    throw asFileError(error, path, { refuse });
  }
}

function changed(path: string, how: string): CheckpointError {
  return new CheckpointError(
    `${path} changed while it was being read: ${how}. Open the checkpoint again once its writer ` +
      `is done`,
  );
}
