/** The checkpoint that a fleet had some steps ago. */
import { join } from "node:path";
import { openCheckpoint } from "../checkpoint/mod.ts";
import { SGLangError, ValidationError } from "../errors.ts";
import { namingPermission } from "../internal/permission.ts";
import { servedStep, stepOf } from "./checkpoint_watch.ts";

/** What to go back from, and how far. */
export interface RollbackOptions {
  /** Weight versions that the servers tell. */
  readonly versions: readonly (string | null)[];
  /** How many checkpoints to go back. */
  readonly steps: number;
  readonly signal: AbortSignal;
}

/**
 * The whole checkpoint in `folder` that is `steps` before the one that is served, by the numbers in
 * their names.
 *
 * @throws {ValidationError} What is served has no number, or the folder has no checkpoint so old.
 */
export async function checkpointBefore(folder: string, options: RollbackOptions): Promise<string> {
  const { versions, steps, signal } = options;
  const served = servedStep(versions);
  if (served === undefined) {
    throw new ValidationError(
      `The servers' versions (${versions.join(", ")}) name no step to go back from: give the ` +
        "checkpoint itself, without --rollback",
    );
  }
  const names = await namingPermission(
    `--allow-read=${folder}`,
    `read ${folder}`,
    async () => {
      const found: string[] = [];
      for await (const entry of Deno.readDir(folder)) {
        if (entry.isDirectory || entry.isSymlink) found.push(entry.name);
      }
      return found;
    },
  );
  const older = names
    .map((name) => ({ name, step: stepOf(name) ?? Infinity }))
    .filter(({ step }) => step < served)
    .sort((a, b) => b.step - a.step);
  const whole: string[] = [];
  for (const { name } of older) {
    if (whole.length === steps) break;
    const path = join(folder, name);
    if (await isWhole(path, signal)) whole.push(path);
  }
  const chosen = whole[steps - 1];
  if (chosen !== undefined) return chosen;
  throw new ValidationError(
    `${folder} has ${whole.length} whole checkpoint(s) before step ${served}, which is served; ` +
      `${steps} were asked for`,
  );
}

async function isWhole(path: string, signal: AbortSignal): Promise<boolean> {
  try {
    await using _checkpoint = await openCheckpoint(path, { signal });
    return true;
  } catch (error) {
    if (signal.aborted || !(error instanceof SGLangError) || error.code === "permission") {
      throw error;
    }
    return false;
  }
}
