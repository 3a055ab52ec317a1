import { join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { asPermissionError } from "../internal/permission.ts";
import { isRecord, parseStrictJson } from "./json.ts";

/** The files of a checkpoint, and for a sharded one in which file each tensor is. */
export interface CheckpointFiles {
  /** Paths of the safetensors files. */
  readonly files: readonly string[];
  /** From tensor name to path; `null` when there is no index. */
  readonly weightMap: ReadonlyMap<string, string> | null;
}

const INDEX_NAME = "model.safetensors.index.json";
const SINGLE_NAME = "model.safetensors";

/**
 * Finds the files of a checkpoint. `path` is a safetensors file, an index, or a folder; in a folder
 * the index counts before `model.safetensors`, and without either all `*.safetensors` belong to it,
 * as in SGLang's own loader.
 */
export async function locateFiles(path: string): Promise<CheckpointFiles> {
  const info = await statPath(path);
  if (!info.isDirectory) {
    return path.endsWith(".json") ? await readIndex(path) : { files: [path], weightMap: null };
  }
  const names = await listNames(path);
  if (names.includes(INDEX_NAME)) return await readIndex(join(path, INDEX_NAME));
  if (names.includes(SINGLE_NAME)) return { files: [join(path, SINGLE_NAME)], weightMap: null };
  const files = names.filter((name) => name.endsWith(".safetensors")).sort();
  if (files.length > 0) return { files: files.map((name) => join(path, name)), weightMap: null };
  const others = names.filter((name) => /\.(bin|pt|pth|gguf)$/.test(name)).sort();
  throw new CheckpointError(
    `${path} holds no *.safetensors file` +
      (others.length === 0 ? "" : `, only ${others.join(", ")}: convert it to safetensors first`),
  );
}

async function statPath(path: string): Promise<Deno.FileInfo> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new CheckpointError(`${path} does not exist`, { cause: error });
    }
    throw asPermissionError(error, `--allow-read=${path}`, `read ${path}`);
  }
}

async function listNames(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder))).map((entry) => entry.name);
  } catch (error) {
    throw asPermissionError(error, `--allow-read=${folder}`, `list ${folder}`);
  }
}

async function readIndex(path: string): Promise<CheckpointFiles> {
  const bytes = await Deno.readFile(path).catch((error) => {
    throw asPermissionError(error, `--allow-read=${path}`, `read ${path}`);
  });
  const { weight_map: entries } = parseStrictJson(bytes, path);
  if (!isRecord(entries) || Object.keys(entries).length === 0) {
    throw new CheckpointError(`${path} has no weight_map`);
  }
  const folder = join(path, "..");
  const weightMap = new Map<string, string>();
  for (const [name, file] of Object.entries(entries)) {
    if (typeof file !== "string" || !isPlainName(file)) {
      throw new CheckpointError(
        `${path}: tensor "${name}" lies in ${JSON.stringify(file)}, where the name of a file in ` +
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
