/** What a command needs of this machine, looked at before any server is asked or started. */
import { dirname, join } from "node:path";
import { openCheckpoint } from "../checkpoint/mod.ts";
import { CheckpointError, ValidationError } from "../errors.ts";
import { asPermissionError, namingPermission } from "../internal/permission.ts";
import { isMissingFile, lookAt } from "../internal/regular_file.ts";

const refuse = (message: string, options?: ErrorOptions) => new ValidationError(message, options);

/**
 * Reads the headers of a checkpoint.
 *
 * @throws {ValidationError} It is not there, cannot be read or is none.
 */
export async function requireCheckpoint(path: string, signal: AbortSignal): Promise<void> {
  try {
    await using _checkpoint = await openCheckpoint(path, { signal });
  } catch (error) {
    if (error instanceof CheckpointError) throw refuse(error.message, { cause: error });
    throw error;
  }
}

/**
 * Lists a folder.
 *
 * @returns Whether it is there.
 * @throws {ValidationError} It is no folder, or may not be read.
 */
export async function requireFolder(path: string, signal: AbortSignal): Promise<boolean> {
  try {
    const info = await lookAt(path, { refuse, signal });
    if (!info.isDirectory) throw refuse(`${path} is a file, where a folder is expected`);
  } catch (error) {
    if (isMissingFile(error)) return false;
    throw error;
  }
  await namingPermission(`--allow-read=${path}`, `read ${path}`, async () => {
    for await (const _entry of Deno.readDir(path)) break;
  });
  return true;
}

/**
 * Opens a file for writing at its end; one that was not there is not left behind.
 *
 * @throws {ValidationError} It cannot be written.
 */
export async function requireWritable(path: string): Promise<void> {
  await namingPermission(`--allow-write=${path}`, `write ${path}`, async () => {
    try {
      (await Deno.open(path, { append: true })).close();
    } catch (error) {
      if (!isMissingFile(error)) throw error;
      (await Deno.open(path, { append: true, createNew: true })).close();
      await Deno.remove(path);
    }
  });
}

/**
 * A model that is written as a path is looked for; other names may be of Hugging Face. What may not
 * be read is left to the server.
 *
 * @throws {ValidationError} It is not there, or a folder without `config.json`.
 */
export async function requireModel(model: string, signal: AbortSignal): Promise<void> {
  const isPath = /^(\/|\.{1,2}\/|~)/.test(model) || model.split("/").length > 2;
  if (!isPath || model.includes("://")) return;
  const { state } = await Deno.permissions.query({ name: "read", path: model });
  if (state !== "granted") return;
  const options = {
    refuse: (message: string, options?: ErrorOptions) => refuse(`MODEL: ${message}`, options),
    signal,
  };
  const { isDirectory } = await lookAt(model, options);
  if (!isDirectory) return;
  await lookAt(join(model, "config.json"), options).catch((error) => {
    if (!isMissingFile(error)) throw error;
    throw refuse(`MODEL: ${model} is a folder without a config.json: it holds no model`);
  });
}

/**
 * A folder for logs; it is made where it is not there yet. What may not be written is left to the
 * programs that write there.
 *
 * @throws {ValidationError} It cannot be made or written.
 */
export async function requireLogFolder(folder: string): Promise<void> {
  const { state } = await Deno.permissions.query({ name: "write", path: folder });
  if (state !== "granted") return;
  const info = await Deno.stat(folder).catch(() => undefined);
  if (info?.isDirectory === false) {
    throw new ValidationError(`Cannot write logs to ${folder}: it is no folder`);
  }
  try {
    await Deno.mkdir(folder, { recursive: true });
    await Deno.remove(await Deno.makeTempFile({ dir: folder, prefix: ".sglang-rl-" }));
  } catch (error) {
    throw asPermissionError(error, `--allow-write=${dirname(folder)}`, `write logs to ${folder}`);
  }
}
