import { join } from "node:path";
import { makeTinyCheckpoint } from "../../../src/embedded/mod.ts";

let root: string | undefined;

/** Folder of a tiny checkpoint; made once, gone after the file's tests. */
export async function tinyFolder(): Promise<string> {
  if (root === undefined) {
    root = await Deno.makeTempDir({ prefix: "sglang-rl-collector-" });
    await makeTinyCheckpoint(join(root, "tiny"), { seed: 0, dtype: "float32" });
  }
  return join(root, "tiny");
}

/** A folder for the files of a test, gone after the file's tests. */
export async function scratchFolder(): Promise<string> {
  await tinyFolder();
  return root!;
}

Deno.test.afterAll(async () => {
  if (root !== undefined) await Deno.remove(root, { recursive: true });
  root = undefined;
});
