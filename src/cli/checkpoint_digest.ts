/** What the files of a checkpoint hold, so that one that was only touched is not taken for a new one. */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { lookAtFile } from "../internal/regular_file.ts";

/** Reading a larger checkpoint a second time costs more than pushing it a second time. */
const MOST_BYTES = 16 * 2 ** 30;
const CHUNK_BYTES = 2 ** 20;

/** A file of a checkpoint, by name and size. */
export interface DigestFile {
  readonly name: string;
  readonly size: number;
}

/**
 * The digest of files of a folder; `undefined` when they are too large, cannot be read, end early or
 * the signal fires. It is of one piece only if the files are the same before and after.
 */
export async function digestOf(
  folder: string,
  files: readonly DigestFile[],
  signal: AbortSignal,
): Promise<string | undefined> {
  if (files.reduce((sum, { size }) => sum + size, 0) > MOST_BYTES) return undefined;
  const hash = createHash("sha256");
  const chunk = new Uint8Array(CHUNK_BYTES);
  try {
    for (const { name, size } of files) {
      hash.update(JSON.stringify([name, size]));
      const path = join(folder, name);
      // A pipe in its place would hold who opens it.
      await lookAtFile(path, { refuse: (message) => new CheckpointError(message), signal });
      using file = await Deno.open(path, { read: true });
      for (let left = size; left > 0;) {
        if (signal.aborted) return undefined;
        const length = await file.read(chunk.subarray(0, Math.min(left, CHUNK_BYTES)));
        if (length === null) return undefined;
        hash.update(chunk.subarray(0, length));
        left -= length;
      }
    }
  } catch {
    return undefined;
  }
  return signal.aborted ? undefined : hash.digest("hex");
}
