import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { basename, join, relative } from "node:path";
import { parse as parseYaml } from "yaml";
import { ValidationError } from "../errors.ts";
import { pathOf } from "../internal/path_of.ts";
import { asFileError, isMissingFile, readRegularFile } from "../internal/regular_file.ts";
import { Dataset, type RowStore } from "./dataset.ts";
import { jsonLinesStore } from "./json_lines.ts";
import {
  DATASET_OPTION_NAMES,
  type DatasetOptions,
  type DatasetRow,
  settingsOf,
} from "./options.ts";
import { parquetStore } from "./parquet.ts";
import { runtime } from "../runtime/mod.ts";

/** Options of {@linkcode huggingFaceDataset}. */
export interface HuggingFaceOptions extends DatasetOptions {
  /** Which split. Default `train`. */
  readonly split?: string | undefined;
  /** Which configuration of `README.md`. Default: the one marked so, `default`, or the first. */
  readonly config?: string | undefined;
}

const NAMES = {
  ...DATASET_OPTION_NAMES,
  split: true,
  config: true,
} as const satisfies OptionNames<HuggingFaceOptions>;

const DEEPEST_FOLDER = 4;
const MOST_FILES = 10_000;

/**
 * A dataset in a folder as the Hugging Face Hub has it, from local files only: `data_files` of a
 * configuration in `README.md`, else the files with the split as a word in their names or folders.
 * Files are Parquet or JSON lines (`.jsonl`, `.ndjson`, `.json`), joined in the order of their names.
 *
 * Needs `--allow-read` of the folder.
 *
 * @throws {ValidationError} When the folder has no such split, with those that it has.
 *
 * Source: Hugging Face Hub, "Manual configuration" and "File names and splits".
 */
export async function huggingFaceDataset(
  place: string,
  options: HuggingFaceOptions = {},
): Promise<Dataset<DatasetRow>> {
  checkOptionNames(options, NAMES, "a dataset");
  const folder = pathOf(place, "a dataset");
  const { split = "train", config, ...limits } = options;
  const { maxRows } = settingsOf(limits);
  const files = await listFiles(folder);
  const configs = await readConfigs(folder, options.signal);
  const patterns = patternsOf(configs, { split, config, folder });
  const chosen = patterns === null
    ? filesOfSplit(files, split)
    : files.filter((file) => patterns.some((pattern) => matches(file, pattern)));
  if (chosen.length === 0) {
    throw new ValidationError(
      `${folder} has no files of the split "${split}"; it has: ${files.join(", ") || "none"}`,
    );
  }
  const stores: RowStore<DatasetRow>[] = [];
  try {
    for (const file of chosen) {
      const open = file.endsWith(".parquet") ? parquetStore : jsonLinesStore;
      stores.push(await open(join(folder, file), limits));
    }
  } catch (error) {
    for (const store of stores) store.close?.();
    throw error;
  }
  return new Dataset(joined(stores, maxRows, folder));
}

/** Several stores behind each other. */
function joined(
  stores: readonly RowStore<DatasetRow>[],
  maxRows: number,
  folder: string,
): RowStore<DatasetRow> {
  const ends: number[] = [];
  for (const { length } of stores) ends.push((ends.at(-1) ?? 0) + length);
  const length = ends.at(-1)!;
  const close = () => stores.forEach((store) => store.close?.());
  if (length > maxRows) {
    close();
    throw new ValidationError(`${folder} has ${length} rows, more than maxRows, ${maxRows}`);
  }
  return {
    length,
    at(index) {
      const which = ends.findIndex((end) => index < end);
      return stores[which]!.at(index - (ends[which - 1] ?? 0));
    },
    close,
  };
}

async function listFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (path: string, depth: number) => {
    for await (const { name, isDirectory } of runtime().readDir(path)) {
      if (name.startsWith(".")) continue;
      if (isDirectory && depth < DEEPEST_FOLDER) await walk(join(path, name), depth + 1);
      else if (/\.(parquet|jsonl|ndjson|json)$/.test(name)) {
        found.push(relative(folder, join(path, name)));
      }
      if (found.length > MOST_FILES) {
        throw new ValidationError(`${folder} has more than ${MOST_FILES} files of data`);
      }
    }
  };
  try {
    await walk(folder, 0);
  } catch (error) {
    throw asFileError(error, folder, { refuse });
  }
  return found.sort();
}

interface Config {
  readonly config_name?: unknown;
  readonly default?: unknown;
  readonly data_files?: unknown;
}

/** `configs` at the top of `README.md`; `null` when there are none. */
async function readConfigs(
  folder: string,
  signal: AbortSignal | undefined,
): Promise<readonly Config[] | null> {
  const path = join(folder, "README.md");
  const limits = { limit: "readmeBytes", maxBytes: 2 ** 24, refuse, signal };
  const text = await readRegularFile(path, limits).then(
    (bytes) => new TextDecoder().decode(bytes),
    (error) => {
      if (isMissingFile(error)) return "";
      throw error;
    },
  );
  const [, head] = /^---\r?\n([\s\S]*?)\r?\n---/.exec(text) ?? [];
  if (head === undefined) return null;
  try {
    const { configs } = parseYaml(head, { maxAliasCount: 100 }) ?? {};
    return Array.isArray(configs) ? configs.filter((entry) => entry?.data_files) : null;
  } catch (cause) {
    throw new ValidationError(`${path}: the head is not YAML`, { cause });
  }
}

/** The patterns of a split; `null` where no configuration tells. */
function patternsOf(
  configs: readonly Config[] | null,
  { split, config, folder }: { split: string; config: string | undefined; folder: string },
): readonly string[] | null {
  if (configs === null || configs.length === 0) {
    if (config === undefined) return null;
    throw new ValidationError(`${folder} has no configurations, so none is called "${config}"`);
  }
  const named = (name: string) => configs.find((entry) => entry.config_name === name);
  const chosen = config === undefined
    ? configs.find((entry) => entry.default === true) ?? named("default") ?? configs[0]
    : named(config);
  if (chosen === undefined) {
    const names = configs.map((entry) => entry.config_name).join(", ");
    throw new ValidationError(`${folder} has no configuration "${config}"; it has: ${names}`);
  }
  const files = chosen.data_files;
  if (typeof files === "string") return [files];
  if (!Array.isArray(files)) return null;
  return files.flatMap((entry) => {
    if (typeof entry === "string") return split === "train" ? [entry] : [];
    return entry?.split === split
      ? [entry.path].flat().filter((path) => typeof path === "string")
      : [];
  });
}

/**
 * Whether a path fits a glob of `*`, `**` and `?`, as configurations have them. Every character is
 * looked at once for each part of the glob: what others wrote must not take long.
 */
export function matches(file: string, glob: string): boolean {
  const parts = glob.replace(/^\.\//, "").match(/\*\*\/|\*+|[^]/g) ?? [];
  // Which parts come next, after the characters so far.
  let open = withSkipped(new Set([0]), parts);
  for (const char of file) {
    const next = new Set<number>();
    for (const at of open) {
      const part = parts[at];
      if (part === "**/") {
        next.add(at);
        if (char === "/") next.add(at + 1);
      } else if (part?.startsWith("*")) {
        if (part.length > 1 || char !== "/") next.add(at);
      } else if (part === char || (part === "?" && char !== "/")) next.add(at + 1);
    }
    open = withSkipped(next, parts);
  }
  return open.has(parts.length);
}

/** Stars stand for nothing, too. */
function withSkipped(open: Set<number>, parts: readonly string[]): Set<number> {
  for (const at of open) if (parts[at]?.startsWith("*")) open.add(at + 1);
  return open;
}

/** The words that the Hub takes for a split. */
const splitWords: Readonly<Record<string, readonly string[]>> = {
  train: ["train", "training"],
  validation: ["validation", "valid", "val", "dev"],
  test: ["test", "testing", "eval", "evaluation"],
};

/** The files whose names or folders have the split as a word; without any such word all are `train`. */
function filesOfSplit(files: readonly string[], split: string): readonly string[] {
  const fits = (words: readonly string[]) =>
    files.filter((file) => wordsOf(file).some((word) => words.includes(word)));
  const found = fits(splitWords[split] ?? [split]);
  const areNamed = fits(Object.values(splitWords).flat()).length > 0;
  return found.length === 0 && split === "train" && !areNamed ? files : found;
}

/** Words of a path, for `data/train-00000-of-00001.parquet` and `test/part.jsonl`. */
function wordsOf(file: string): string[] {
  return [...file.split("/").slice(0, -1), ...basename(file).split(/[-._ 0-9]+/)];
}

function refuse(message: string, options?: ErrorOptions): ValidationError {
  return new ValidationError(message, options);
}
