import { CheckpointError } from "../errors.ts";
import { asPermissionError } from "../internal/permission.ts";

/** Reads a JSON object from a file. */
export async function readJson(path: string): Promise<Record<string, unknown>> {
  const value = await readOptionalJson(path);
  if (value !== undefined) return value;
  throw new CheckpointError(`${path} is missing; expected the folder of a Hugging Face checkpoint`);
}

/** The same; `undefined` when there is no such file. */
export async function readOptionalJson(
  path: string,
): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw asPermissionError(error, `--allow-read=${path}`, `read ${path}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    throw new CheckpointError(`${path} is not JSON`, { cause: error });
  }
  throw new CheckpointError(`${path} must hold a JSON object`);
}
