import { join } from "node:path";
import type { EnvironmentRecipe } from "./environment.ts";

const stampName = ".sglang-rl-stamp";

/** What a finished environment of this recipe is stamped with: a hash of all that goes into it. */
export async function stampOf(recipe: EnvironmentRecipe): Promise<string> {
  const parts = [await Deno.readFile(recipe.lock)];
  if (recipe.shim !== undefined) {
    const names = [];
    for await (const file of Deno.readDir(recipe.shim)) if (file.isFile) names.push(file.name);
    for (const name of names.sort()) parts.push(await Deno.readFile(join(recipe.shim, name)));
  }
  const all = new Uint8Array(await new Blob(parts).arrayBuffer());
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", all));
  return hash.toHex();
}

/** The stamp of a folder, when it has one. */
export async function readStamp(folder: string): Promise<string | undefined> {
  try {
    return (await Deno.readTextFile(join(folder, stampName))).trim();
  } catch {
    return undefined;
  }
}

/** Stamps a folder as finished. */
export async function writeStamp(folder: string, stamp: string): Promise<void> {
  await Deno.writeTextFile(join(folder, stampName), stamp + "\n");
}

/** Whether there is something at a path. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.lstat(path);
    return true;
  } catch {
    return false;
  }
}
