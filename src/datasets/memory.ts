import { LimitError } from "../errors.ts";
import { Dataset } from "./dataset.ts";
import { type DatasetOptions, settingsOf } from "./options.ts";

/**
 * A dataset of rows in memory: a list, or whatever gives them one after the other, which is read to
 * its end.
 *
 * @throws {LimitError} Above `maxRows`, so that a source without end does not fill the memory.
 */
export async function datasetOf<Row>(
  rows: Iterable<Row> | AsyncIterable<Row>,
  options: DatasetOptions = {},
): Promise<Dataset<Row>> {
  const { maxRows: max, signal } = settingsOf(options);
  const held: Row[] = [];
  for await (const row of rows) {
    signal?.throwIfAborted();
    if (held.length === max) {
      throw new LimitError(`A dataset has more rows than maxRows, ${max}`, {
        limit: "maxRows",
        max,
      });
    }
    held.push(row);
  }
  return new Dataset({ length: held.length, at: (index) => held[index]! });
}
