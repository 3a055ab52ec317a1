/** New checkpoints in a folder, as they become complete. */
import { join } from "node:path";
import { sleep } from "../internal/deadline.ts";
import { namingPermission } from "../internal/permission.ts";

/** What a checkpoint consists of, so that a change of any file is seen. */
interface Sighting {
  readonly path: string;
  /** Sizes and times of its weight files. */
  readonly state: string;
  /** Time of the newest one. */
  readonly changedMs: number;
}

/** How to watch. */
export interface WatchOptions {
  /** Pause between two looks. */
  readonly intervalMs: number;
  readonly signal: AbortSignal;
}

/**
 * The newest checkpoint in `folder` (or `folder` itself), and every newer one. A checkpoint counts
 * when two looks in a row find the same files: whoever writes it has then finished. Ends when the
 * signal fires.
 */
export async function* watchCheckpoints(
  folder: string,
  { intervalMs, signal }: WatchOptions,
): AsyncGenerator<string> {
  let given: string | undefined;
  let before: Sighting | undefined;
  while (!signal.aborted) {
    const newest = await newestCheckpoint(folder);
    const isStable = newest !== undefined && newest.state === before?.state;
    if (isStable && newest.state !== given) {
      given = newest.state;
      yield newest.path;
    }
    before = newest;
    await sleep(intervalMs, { signal }).catch(() => {});
  }
}

/** The checkpoint that was written last: `folder` itself or a folder in it. */
async function newestCheckpoint(folder: string): Promise<Sighting | undefined> {
  return await namingPermission(`--allow-read=${folder}`, `watch ${folder}`, async () => {
    const found = [await sight(folder)];
    for await (const entry of Deno.readDir(folder)) {
      if (entry.isDirectory || entry.isSymlink) found.push(await sight(join(folder, entry.name)));
    }
    return found.filter((one) => one !== undefined).sort((a, b) => b.changedMs - a.changedMs)[0];
  });
}

async function sight(path: string): Promise<Sighting | undefined> {
  const files: string[] = [];
  let changedMs = 0;
  try {
    for await (const { name } of Deno.readDir(path)) {
      if (!name.endsWith(".safetensors") && name !== "model.safetensors.index.json") continue;
      const { size, mtime } = await Deno.stat(join(path, name));
      files.push(`${name}:${size}:${mtime?.getTime()}`);
      changedMs = Math.max(changedMs, mtime?.getTime() ?? 0);
    }
  } catch (error) {
    // A folder may go away while it is read: trainers delete old checkpoints.
    const isGone = error instanceof Deno.errors.NotFound ||
      error instanceof Deno.errors.NotADirectory;
    if (isGone) return undefined;
    throw error;
  }
  if (files.length === 0) return undefined;
  return { path, state: `${path} ${files.sort().join(" ")}`, changedMs };
}
