import { join } from "node:path";
import { CheckpointError, LimitError } from "../errors.ts";
import { inBrief } from "../internal/brief.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { pathOf } from "../internal/path_of.ts";
import { asFileError, lookAt, readRegularFile } from "../internal/regular_file.ts";
import { DEFAULT_TENSORS, tooManyTensors } from "./header.ts";
import { decodeJson, entriesOf, namedTwice, parseValue } from "./json.ts";
import { runtime } from "../runtime/mod.ts";

/** The files of a checkpoint, and for a sharded one in which file each tensor is. */
export interface CheckpointFiles {
  /** Paths of the safetensors files. */
  readonly files: readonly string[];
  /** From tensor name to path; `null` when there is no index. */
  readonly weightMap: ReadonlyMap<string, string> | null;
}

/**
 * How much is read of a checkpoint's files before any tensor is. A folder may be somebody else's: what
 * goes beyond is a `LimitError`.
 */
export interface CheckpointLimits {
  /** Longest header of a file, at most 100,000,000 bytes as in safetensors. Default 16 MiB. */
  readonly maxHeaderBytes?: number | undefined;
  /** Longest index in bytes. Default 32 MiB. */
  readonly maxIndexBytes?: number | undefined;
  /** Most files of one checkpoint. Default 2,000; the largest models have a few hundred. */
  readonly maxFiles?: number | undefined;
  /** Most tensors in all headers together. Default 300,000; the largest models have some 150,000. */
  readonly maxTensors?: number | undefined;
  /** Most entries of the `__metadata__` of a file, which mostly has a handful. Default 10,000. */
  readonly maxMetadata?: number | undefined;
}

/** Options of {@linkcode locateFiles}. */
export interface LocateOptions extends CheckpointLimits {
  readonly signal?: AbortSignal | undefined;
}

/** A tensor takes about 100 bytes of an index; this is for some 300,000. */
const MAX_INDEX_BYTES = 32 * 2 ** 20;
const MAX_FILES = 2000;
/** Longest of the other values of an index, such as its `metadata`. */
const MAX_OTHER_CHARACTERS = 64 * 1024;

const INDEX_NAME = "model.safetensors.index.json";
const SINGLE_NAME = "model.safetensors";

/**
 * Finds the files of a checkpoint. `place` is a safetensors file, an index, or a folder; in a folder
 * the index counts before `model.safetensors`, and without either all `*.safetensors` belong to it,
 * as in SGLang's own loader.
 */
export async function locateFiles(
  place: string,
  options: LocateOptions = {},
): Promise<CheckpointFiles> {
  const path = pathOf(place, "a checkpoint");
  const { signal, maxFiles = MAX_FILES } = options;
  const info = await lookAt(path, { refuse, signal });
  if (!info.isDirectory) {
    return path.endsWith(".json")
      ? await readIndex(path, options)
      : { files: [path], weightMap: null };
  }
  const { special, files, others } = await listNames(path, { signal, most: maxFiles + 1 });
  if (special.has(INDEX_NAME)) return await readIndex(join(path, INDEX_NAME), options);
  if (special.has(SINGLE_NAME)) return { files: [join(path, SINGLE_NAME)], weightMap: null };
  if (files.length > maxFiles) throw tooManyFiles(path, maxFiles);
  if (files.length > 0) {
    return { files: files.sort().map((name) => join(path, name)), weightMap: null };
  }
  throw new CheckpointError(
    `${path} holds no *.safetensors file` +
      (others.length === 0 ? "" : `, only ${others.join(", ")}: convert it to safetensors first`),
  );
}

const refuse = (message: string, options?: ErrorOptions) => new CheckpointError(message, options);

function tooManyFiles(path: string, max: number): LimitError {
  return new LimitError(`${path} has more files than maxFiles, ${max}`, { limit: "maxFiles", max });
}

/** Files of other formats that an error names. */
const SHOWN_OTHERS = 10;

/** The names that count of a folder, which may hold a million others. */
async function listNames(
  folder: string,
  { signal, most }: { readonly signal?: AbortSignal | undefined; readonly most: number },
): Promise<{ special: Set<string>; files: string[]; others: string[] }> {
  const special = new Set<string>(), files: string[] = [], others: string[] = [];
  try {
    for await (const { name } of runtime().readDir(folder)) {
      throwIfAborted(signal, `list ${folder}`);
      if (name === INDEX_NAME || name === SINGLE_NAME) special.add(name);
      if (name.endsWith(".safetensors")) {
        if (files.length < most) files.push(name);
      } else if (/\.(bin|pt|pth|gguf)$/.test(name) && others.length < SHOWN_OTHERS) {
        others.push(name);
      }
    }
  } catch (error) {
    throw asFileError(error, folder, { refuse });
  }
  return { special, files, others: others.sort() };
}

async function readIndex(path: string, options: LocateOptions): Promise<CheckpointFiles> {
  const { signal, maxIndexBytes = MAX_INDEX_BYTES } = options;
  const bytes = await readRegularFile(path, {
    refuse,
    signal,
    limit: "maxIndexBytes",
    maxBytes: maxIndexBytes,
  });
  let weightMap: Map<string, string> | undefined;
  for (const [name, text] of entriesOf(decodeJson(bytes, path), path)) {
    if (name !== "weight_map") {
      if (text.length > MAX_OTHER_CHARACTERS) {
        throw new CheckpointError(`${path}: ${inBrief(name)} has ${text.length} characters`);
      }
      parseValue(text, path);
      continue;
    }
    if (weightMap !== undefined) throw namedTwice(path, name);
    weightMap = readWeightMap(text, path, options);
  }
  if (weightMap === undefined || weightMap.size === 0) {
    throw new CheckpointError(`${path} has no weight_map`);
  }
  return { files: [...new Set(weightMap.values())].sort(), weightMap };
}

function readWeightMap(text: string, path: string, options: LocateOptions): Map<string, string> {
  const { maxFiles = MAX_FILES, maxTensors = DEFAULT_TENSORS } = options;
  const weightMap = new Map<string, string>();
  // A name is there once, however many tensors lie in its file.
  const paths = new Map<string, string>();
  if (!text.startsWith("{")) return weightMap;
  for (const [name, value] of entriesOf(text, path)) {
    if (weightMap.has(name)) throw namedTwice(path, name);
    if (weightMap.size === maxTensors) {
      const { message, limit, max } = tooManyTensors(maxTensors);
      throw new LimitError(`${path} has ${message}`, { limit, max });
    }
    weightMap.set(name, paths.get(value) ?? added(name, value));
  }
  return weightMap;

  function added(name: string, value: string): string {
    const file = value.length > MAX_OTHER_CHARACTERS ? null : parseValue(value, path);
    if (typeof file !== "string" || !isPlainName(file)) {
      throw new CheckpointError(
        `${path}: tensor ${inBrief(name)} lies in ${inBrief(file)}, where the name of a file in ` +
          `the same folder is expected`,
      );
    }
    if (paths.size === maxFiles) throw tooManyFiles(path, maxFiles);
    const place = join(path, "..", file);
    // `value` is a part of the text of the index, which would stay in memory with it.
    paths.set(JSON.stringify(file), place);
    return place;
  }
}

/** An index from elsewhere must not be able to name files outside its folder. */
function isPlainName(file: string): boolean {
  return file !== "" && file !== "." && file !== ".." && !/[/\\\0]/.test(file);
}
