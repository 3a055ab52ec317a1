import type { Dirent, Stats } from "node:fs";
import type { FileInfo, FolderEntry, OpenFile, OpenOptions } from "../types.ts";
import { whileNoPipe } from "../while_no_pipe.ts";
import { builtin } from "./builtin.ts";

/** A file by its descriptor, so that it can be closed without waiting. */
class NodeFile implements OpenFile {
  readonly #descriptor: number;
  readonly #appends: boolean;
  #place = 0;
  #isClosed = false;

  constructor(descriptor: number, appends: boolean) {
    this.#descriptor = descriptor;
    this.#appends = appends;
  }

  async read(target: Uint8Array): Promise<number | null> {
    const count = await this.#call<number>((done) =>
      builtin("node:fs").read(this.#descriptor, target, 0, target.length, this.#place, done)
    );
    this.#place += count;
    return count === 0 && target.length > 0 ? null : count;
  }

  async write(bytes: Uint8Array): Promise<number> {
    const place = this.#appends ? null : this.#place;
    const count = await this.#call<number>((done) =>
      builtin("node:fs").write(this.#descriptor, bytes, 0, bytes.length, place, done)
    );
    this.#place += count;
    return count;
  }

  seek(offset: number): Promise<number> {
    this.#place = offset;
    return Promise.resolve(offset);
  }

  async stat(): Promise<FileInfo> {
    return infoOf(
      await this.#call<Stats>((done) => builtin("node:fs").fstat(this.#descriptor, done)),
    );
  }

  async sync(): Promise<void> {
    await this.#call<void>((done) => builtin("node:fs").fsync(this.#descriptor, done));
  }

  close(): void {
    if (this.#isClosed) throw new Error("The file is closed");
    this.#isClosed = true;
    builtin("node:fs").closeSync(this.#descriptor);
  }

  [Symbol.dispose](): void {
    if (!this.#isClosed) this.close();
  }

  #call<T>(
    work: (done: (error: Error | null, result?: T) => void) => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) throw new Error("The file is closed");
      work((error, result) => error ? reject(error) : resolve(result as T));
    });
  }
}

/** Opens a file. */
export function openFile(path: string | URL, options: OpenOptions = {}): Promise<OpenFile> {
  return options.write || options.append
    ? whileNoPipe(path, () => open(path, options))
    : open(path, options);
}

function open(path: string | URL, options: OpenOptions): Promise<OpenFile> {
  return new Promise((resolve, reject) => {
    builtin("node:fs").open(path, flagsOf(options), 0o666, (error, descriptor) => {
      if (error) reject(error);
      else resolve(new NodeFile(descriptor, options.append ?? false));
    });
  });
}

function flagsOf(options: OpenOptions): number {
  const { constants } = builtin("node:fs");
  const { read = false, write = false, append = false, createNew = false } = options;
  const writes = write || append;
  return (writes ? (read ? constants.O_RDWR : constants.O_WRONLY) : constants.O_RDONLY) |
    (append ? constants.O_APPEND : 0) |
    (options.create || createNew ? constants.O_CREAT : 0) |
    (createNew ? constants.O_EXCL : 0) |
    (options.truncate ? constants.O_TRUNC : 0);
}

/** What is said of a path, by the names of this library. */
export function infoOf(stats: Stats): FileInfo {
  return {
    isFile: stats.isFile(),
    isDirectory: stats.isDirectory(),
    isSymlink: stats.isSymbolicLink(),
    isFifo: stats.isFIFO(),
    isSocket: stats.isSocket(),
    isCharDevice: stats.isCharacterDevice(),
    isBlockDevice: stats.isBlockDevice(),
    size: stats.size,
    mtime: stats.mtime,
    ctime: stats.ctime,
    ino: stats.ino,
    dev: stats.dev,
  };
}

/** The names in a folder, in no order. */
export async function* readFolder(path: string): AsyncGenerator<FolderEntry, void, void> {
  for await (const entry of await builtin("node:fs/promises").opendir(path)) yield entryOf(entry);
}

function entryOf(entry: Dirent): FolderEntry {
  return {
    name: entry.name,
    isFile: entry.isFile(),
    isDirectory: entry.isDirectory(),
    isSymlink: entry.isSymbolicLink(),
  };
}
