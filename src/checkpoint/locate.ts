import { join } from "node:path";
import { CheckpointError, LimitError } from "../errors.ts";
import { inBrief } from "../internal/brief.ts";
import { asFileError, lookAt, readRegularFile } from "../internal/regular_file.ts";
import { isRecord } from "../internal/json.ts";
import { parseStrictJson } from "./json.ts";

/** The files of a checkpoint, and for a sharded one in which file each tensor is. */
export interface CheckpointFiles {
  /** Paths of the safetensors files. */
  readonly files: readonly string[];
  /** From tensor name to path; `null` when there is no index. */
  readonly weightMap: ReadonlyMap<string, string> | null;
}

/** A tensor takes about 100 bytes of an index; this is for some 300,000. */
const MAX_INDEX_BYTES = 32 * 2 ** 20;
/** Files of one checkpoint; the largest models have a few hundred. */
const MAX_FILES = 10_000;

const INDEX_NAME = "model.safetensors.index.json";
const SINGLE_NAME = "model.safetensors";

/**
 * Finds the files of a checkpoint. `path` is a safetensors file, an index, or a folder; in a folder
 * the index counts before `model.safetensors`, and without either all `*.safetensors` belong to it,
 * as in SGLang's own loader.
 */
export async function locateFiles(
  path: string,
  signal?: AbortSignal,
): Promise<CheckpointFiles> {
  const info = await lookAt(path, { refuse, signal });
  if (!info.isDirectory) {
    return path.endsWith(".json")
      ? await readIndex(path, signal)
      : { files: [path], weightMap: null };
  }
  const names = await listNames(path);
  if (names.includes(INDEX_NAME)) return await readIndex(join(path, INDEX_NAME), signal);
  if (names.includes(SINGLE_NAME)) return { files: [join(path, SINGLE_NAME)], weightMap: null };
  const files = names.filter((name) => name.endsWith(".safetensors")).sort();
  if (files.length > 0) return { files: files.map((name) => join(path, name)), weightMap: null };
  const others = names.filter((name) => /\.(bin|pt|pth|gguf)$/.test(name)).sort();
  throw new CheckpointError(
    `${path} holds no *.safetensors file` +
      (others.length === 0 ? "" : `, only ${others.join(", ")}: convert it to safetensors first`),
  );
}

const refuse = (message: string, options?: ErrorOptions) => new CheckpointError(message, options);

async function listNames(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map((entry) => entry.name);
  } catch (error) {
    throw asFileError(error, folder, { refuse });
  }
}

async function readIndex(path: string, signal: AbortSignal | undefined): Promise<CheckpointFiles> {
  const bytes = await readRegularFile(path, {
    refuse,
    signal,
    limit: "indexBytes",
    maxBytes: MAX_INDEX_BYTES,
  });
  const { weight_map: entries } = parseStrictJson(bytes, path);
  if (!isRecord(entries) || Object.keys(entries).length === 0) {
    throw new CheckpointError(`${path} has no weight_map`);
  }
  const folder = join(path, "..");
  const names = new Set<unknown>(Object.values(entries));
  if (names.size > MAX_FILES) {
    throw new LimitError(`${path} names ${names.size} files, more than indexFiles, ${MAX_FILES}`, {
      limit: "indexFiles",
      max: MAX_FILES,
    });
  }
  const weightMap = new Map<string, string>();
  for (const [name, file] of Object.entries(entries)) {
    if (typeof file !== "string" || !isPlainName(file)) {
      throw new CheckpointError(
        `${path}: tensor "${name}" lies in ${inBrief(file)}, where the name of a file in ` +
          `the same folder is expected`,
      );
    }
    weightMap.set(name, join(folder, file));
  }
  return { files: [...new Set(weightMap.values())].sort(), weightMap };
}

/** An index from elsewhere must not be able to name files outside its folder. */
function isPlainName(file: string): boolean {
  return file !== "" && file !== "." && file !== ".." && !/[/\\\0]/.test(file);
}
