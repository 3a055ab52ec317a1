import { CheckpointError } from "../errors.ts";
import { jsonExcess } from "../internal/json.ts";
import { isMissingFile, readRegularFile } from "../internal/regular_file.ts";

/** The largest tokenizers have some 30 MiB. */
const MAX_BYTES = 128 * 2 ** 20;

const refuse = (message: string, options?: ErrorOptions) => new CheckpointError(message, options);

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
    text = new TextDecoder().decode(
      await readRegularFile(path, { refuse, limit: "jsonBytes", maxBytes: MAX_BYTES }),
    );
  } catch (error) {
    if (isMissingFile(error)) return undefined;
    throw error;
  }
  const excess = jsonExcess(text);
  if (excess !== null) throw new CheckpointError(`${path} ${excess}`);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch (error) {
    throw new CheckpointError(`${path} is not JSON`, { cause: error });
  }
  throw new CheckpointError(`${path} must hold a JSON object`);
}
