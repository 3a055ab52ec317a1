import type { TensorToWrite } from "../checkpoint/mod.ts";
import { safetensorsFile } from "../checkpoint/writer.ts";
import { writeAll } from "../internal/write_all.ts";
import { CONFIG_FILE, TENSOR_FILE } from "./adapter.ts";
import { runtime } from "../runtime/mod.ts";

/** Linux keeps files of the first in memory, where Deno lets only a process with all permissions. */
const PARENTS = ["/dev/shm", "/tmp"];
const PREFIX = "sglang-rl-adapter-";
/** No load takes so long: what is older was left by a process that was killed. */
const ORPHAN_MS = 3600_000;

/**
 * An adapter as a folder of this machine, in memory where it can be, for servers that see it. It is there only
 * while one of them reads it, and is written again for one that joins later.
 */
export class Handover {
  readonly #config: object;
  readonly #tensors: readonly TensorToWrite[];
  readonly #parents: readonly string[];
  #folder: Promise<string> | undefined;
  #readers = 0;
  #removing: Promise<void> = Promise.resolve();

  /** Writes nothing yet. */
  constructor(
    config: object,
    tensors: readonly TensorToWrite[],
    options: { readonly parents?: readonly string[] } = {},
  ) {
    const { parents = PARENTS } = options;
    this.#config = config;
    this.#tensors = tensors;
    this.#parents = parents;
  }

  /** Whether this process may write one; nobody is asked for a permission. */
  async isPossible(): Promise<boolean> {
    return await this.#parent() !== undefined;
  }

  /** Has the folder there while `read` runs. */
  async whileThere<T>(read: (folder: string) => Promise<T>): Promise<T> {
    this.#readers++;
    try {
      return await read(await (this.#folder ??= this.#write()));
    } finally {
      if (--this.#readers === 0) {
        const folder = this.#folder;
        this.#folder = undefined;
        this.#removing = remove(folder);
        await this.#removing;
      }
    }
  }

  async #parent(): Promise<string | undefined> {
    for (const path of this.#parents) {
      if (await isWritable(path)) return path;
    }
    return undefined;
  }

  async #write(): Promise<string> {
    await this.#removing;
    const parent = await this.#parent();
    await removeOrphans(parent!, Date.now() - ORPHAN_MS);
    const folder = await runtime().makeTempDir({ dir: parent!, prefix: PREFIX });
    try {
      await runtime().writeTextFile(`${folder}/${CONFIG_FILE}`, JSON.stringify(this.#config));
      // Not by writeSafetensors(), which waits until the bytes are on a disk.
      using file = await runtime().open(`${folder}/${TENSOR_FILE}`, {
        write: true,
        createNew: true,
      });
      for (const piece of safetensorsFile(this.#tensors, { format: "pt" }).pieces()) {
        await writeAll(file, piece);
      }
      return folder;
    } catch (error) {
      await removeQuietly(folder);
      throw error;
    }
  }
}

async function isWritable(path: string): Promise<boolean> {
  for (const name of ["read", "write"] as const) {
    if (!runtime().isGranted({ name, path })) return false;
  }
  return await runtime().stat(path).then(({ isDirectory }) => isDirectory, () => false);
}

async function remove(folder: Promise<string> | undefined): Promise<void> {
  const path = await folder?.catch(() => undefined);
  if (path !== undefined) await removeQuietly(path);
}

async function removeOrphans(parent: string, beforeMs: number): Promise<void> {
  for await (const { name, isDirectory } of runtime().readDir(parent)) {
    if (!isDirectory || !name.startsWith(PREFIX)) continue;
    const { mtime } = await runtime().lstat(`${parent}/${name}`).catch(() => ({ mtime: null }));
    if (mtime !== null && mtime.getTime() < beforeMs) await removeQuietly(`${parent}/${name}`);
  }
}

async function removeQuietly(folder: string): Promise<void> {
  await runtime().remove(folder, { recursive: true }).catch(() => {});
}
