/**
 * Tasks from files: JSON lines, Parquet, folders as the Hugging Face Hub has them; shuffled by a seed,
 * in epochs and shards, the same in each run.
 *
 * @module
 */
export { Dataset, DatasetCursor, type DatasetState, type RowStore, type Shard } from "./dataset.ts";
export { huggingFaceDataset, type HuggingFaceOptions } from "./hugging_face.ts";
export { jsonLinesDataset } from "./json_lines.ts";
export { datasetOf } from "./memory.ts";
export type { DatasetOptions, DatasetRow } from "./options.ts";
export { parquetDataset } from "./parquet.ts";
