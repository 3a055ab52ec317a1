import { openSource } from "../internal/byte_source.ts";
import { parseRecord } from "../internal/json.ts";
import { findLines } from "../internal/line_index.ts";
import { Dataset, type RowStore } from "./dataset.ts";
import { type DatasetOptions, type DatasetRow, settingsOf } from "./options.ts";

/**
 * A dataset of a file of JSON lines, each an object. The file is looked through once; rows are read
 * when they are taken, so that it may be larger than memory (8 bytes for each row are held).
 *
 * Needs `--allow-read` of the file.
 *
 * @throws {ValidationError} For a file that cannot be read, and later for a line that is no object.
 * @throws {LimitError} Above the limits.
 *
 * @example
 * ```ts ignore
 * await using dataset = (await jsonLinesDataset("train.jsonl")).shuffle(7).repeat(3);
 * ```
 */
export async function jsonLinesDataset(
  path: string | URL,
  options: DatasetOptions = {},
): Promise<Dataset<DatasetRow>> {
  return new Dataset(await jsonLinesStore(path, options));
}

/** The rows of a file of JSON lines. */
export async function jsonLinesStore(
  path: string | URL,
  options: DatasetOptions,
): Promise<RowStore<DatasetRow>> {
  const settings = settingsOf(options);
  // The signal is for the opening; rows are read long after it.
  const source = await openSource(path, {});
  try {
    const lines = await findLines(source, settings);
    return {
      length: lines.length,
      async at(index) {
        const [line] = await lines.read(index, index + 1);
        if (line instanceof Error) throw line;
        return parseRecord(line!, lines.nameOf(index));
      },
      close: () => source.close(),
    };
  } catch (error) {
    source.close();
    throw error;
  }
}
