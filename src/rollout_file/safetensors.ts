import {
  type Header,
  LENGTH_FIELD_BYTES,
  parseHeader,
  parseHeaderLength,
  type TensorPlace,
} from "../checkpoint/header.ts";
import { type DType, itemSizeBytes } from "../checkpoint/dtype.ts";
import { CheckpointError, LimitError, ValidationError } from "../errors.ts";
import type { ByteSource } from "../internal/byte_source.ts";
import { isRecord, parseJsonOfFile } from "../internal/json.ts";
import { decode, nameList } from "./column_texts.ts";
import { Fields, isSpans } from "./fields.ts";
import { columnText, type FurtherColumn, furtherColumns } from "./further_columns.ts";
import { finishNames, type RolloutRecord, rolloutSchemas, versionOf } from "./record.ts";
import { rowLine } from "./row_line.ts";
import { type DamagedRow, orDamaged, type ReadSettings, type RowReader } from "./row_reader.ts";

/** Columns of one value a row, and whether files of schema /1 have them. */
const plainColumns: Readonly<
  Record<string, { dtype: DType; isNew?: true; isOptional?: true }>
> = {
  reward: { dtype: "float32" },
  done: { dtype: "bool" },
  truncated: { dtype: "bool" },
  stale: { dtype: "bool" },
  versions_exact: { dtype: "bool" },
  finish_reason: { dtype: "uint8" },
  dialog: { dtype: "int64" },
  group: { dtype: "int64", isNew: true },
  member: { dtype: "int32", isNew: true },
  attempt: { dtype: "int32" },
  environment: { dtype: "int32" },
  turn: { dtype: "int32" },
  parent: { dtype: "int32", isNew: true },
  branch: { dtype: "int32", isNew: true },
  routed_experts_start: { dtype: "int32", isOptional: true },
  routed_experts_tokens: { dtype: "int32", isOptional: true },
};

/** Columns of several values a row: where their offsets are, and which may be absent. */
const raggedColumns: Readonly<
  Record<string, { dtype: DType; offsets: string; isOptional?: true; isNew?: true }>
> = {
  prompt_ids: { dtype: "int32", offsets: "prompt_offsets" },
  response_ids: { dtype: "int32", offsets: "response_offsets" },
  log_probs: { dtype: "float32", offsets: "response_offsets", isOptional: true },
  token_versions: { dtype: "int32", offsets: "response_offsets", isOptional: true },
  response_text: { dtype: "uint8", offsets: "response_text_offsets" },
  info: { dtype: "uint8", offsets: "info_offsets", isNew: true },
  server: { dtype: "uint8", offsets: "server_offsets", isNew: true },
  weight_versions: { dtype: "uint8", offsets: "weight_versions_offsets", isNew: true },
  routed_experts: { dtype: "int32", offsets: "routed_experts_offsets", isOptional: true },
};

function isKnown(name: string): boolean {
  return Object.hasOwn(plainColumns, name) || Object.hasOwn(raggedColumns, name) ||
    Object.values(raggedColumns).some(({ offsets }) => offsets === name);
}

/** Rows of a safetensors file: of each column just the part that is asked for is read. */
export async function openSafetensors(
  source: ByteSource,
  settings: ReadSettings,
): Promise<RowReader> {
  const header = await readHeader(source);
  const fields = new Fields(header.metadata, `${source.name}, metadata`);
  const schema = fields.oneOf("schema", rolloutSchemas);
  const file = new ColumnFile(source, header);
  const length = file.rowCount();
  if (length > settings.maxRows) {
    throw new LimitError(
      `${source.name} has ${length} rows, more than maxRows, ${settings.maxRows}`,
      { limit: "maxRows", max: settings.maxRows },
    );
  }
  await file.check(length, schema === "sglang-rl.rollout/1");
  const versionNames = nameList(header.metadata.version_names, `${source.name}: version_names`);
  const reasons = nameList(header.metadata.finish_reasons, `${source.name}: finish_reasons`);
  const versions = versionNames.map(versionOf);
  const take = (window: Window, i: number, row: number) =>
    toRecord(window, i, { versions, reasons, where: `${source.name}, row ${row}` });
  return {
    form: "safetensors",
    schema,
    length,
    versionNames,
    sizeOf: (start, end) => file.sizeOf(start, end),
    rows: (start, end) => readRows(file, { start, end }, take),
    async lines(start, end) {
      const [rows, further] = await Promise.all([
        readRows(file, { start, end }, take),
        file.further(start, end),
      ]);
      return rows.map((row, i) => {
        if (row instanceof Error) throw row;
        return toLine(row, further[i]!);
      }).join("");
    },
  };
}

/** A row of which the file has no messages. */
function toLine(row: RolloutRecord, further: string): string {
  return rowLine(
    { ...row, messages: [], response: { role: "assistant", content: row.responseText } },
    JSON.stringify(row.tokenVersions),
    further,
  );
}

/** Reads rows together; where a column is damaged, in smaller parts, to find the rows it costs. */
async function readRows(
  file: ColumnFile,
  { start, end }: { readonly start: number; readonly end: number },
  take: (window: Window, i: number, row: number) => RolloutRecord,
): Promise<(RolloutRecord | DamagedRow)[]> {
  let window: Window;
  try {
    window = await file.read(start, end);
  } catch (error) {
    if (!(error instanceof ValidationError)) throw error;
    if (end - start <= 1) return [error];
    const middle = (start + end) >> 1;
    return [
      ...await readRows(file, { start, end: middle }, take),
      ...await readRows(file, { start: middle, end }, take),
    ];
  }
  return Array.from({ length: end - start }, (_, i) => orDamaged(() => take(window, i, start + i)));
}

async function readHeader(source: ByteSource): Promise<Header> {
  try {
    const field = await source.read(0, LENGTH_FIELD_BYTES);
    const bytes = parseHeaderLength(field, source.size);
    return parseHeader(await source.read(LENGTH_FIELD_BYTES, bytes), source.size);
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    throw new ValidationError(`${source.name} is no safetensors file: ${error.message}`, {
      cause: error,
    });
  }
}

/** The part of every column that belongs to some rows. */
type Window = ReadonlyMap<
  string,
  { readonly bytes: Uint8Array<ArrayBuffer>; at(i: number): number }
>;

/** The columns of a file by name. */
class ColumnFile {
  readonly #source: ByteSource;
  readonly #places: ReadonlyMap<string, TensorPlace>;
  readonly #further: readonly FurtherColumn[];

  constructor(source: ByteSource, { tensors }: Header) {
    this.#source = source;
    this.#places = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    this.#further = furtherColumns(this.#places, isKnown, this.rowCount());
  }

  /** What the columns that no schema knows have of some rows, each as JSON: `,"name":value` for each. */
  async further(start: number, end: number): Promise<string[]> {
    const lines = Array.from({ length: end - start }, () => "");
    for (const column of this.#further) {
      const ends = column.offsets === undefined
        ? Array.from({ length: end - start + 1 }, (_, i) => start + i)
        : await this.#offsets(column.offsets, start, end);
      const first = ends[0]!;
      const bytes = await this.#slice(column.name, first, ends.at(-1)!);
      lines.forEach((_line, i) => {
        const part = { start: ends[i]! - first, end: ends[i + 1]! - first };
        lines[i] += `,${JSON.stringify(column.name)}:${columnText(column, bytes, part)}`;
      });
    }
    return lines;
  }

  rowCount(): number {
    const reward = this.#places.get("reward");
    if (reward === undefined) throw this.#wrong("has no column reward: it is no rollout");
    return reward.shape[0] ?? 0;
  }

  /** Checks that every column that is read fits the number of rows. */
  async check(rows: number, isOld: boolean): Promise<void> {
    for (const [name, { dtype, isNew, isOptional }] of Object.entries(plainColumns)) {
      if ((isOptional || (isOld && isNew)) && !this.#places.has(name)) continue;
      this.#checkColumn(name, dtype, rows);
    }
    for (const [name, { dtype, offsets, isOptional, isNew }] of Object.entries(raggedColumns)) {
      if ((isOptional || (isOld && isNew)) && !this.#places.has(name)) continue;
      this.#checkColumn(offsets, "int64", rows + 1);
      const ends = await this.#offsets(offsets, 0, rows, true);
      this.#checkColumn(name, dtype, ends.at(-1)!);
      if (ends[0] !== 0) throw this.#wrong(`column ${offsets} should begin with 0`);
    }
  }

  async sizeOf(start: number, end: number): Promise<number> {
    let bytes = 0;
    for (const [name, { dtype, offsets }] of Object.entries(raggedColumns)) {
      if (!this.#places.has(name)) continue;
      const ends = await this.#offsets(offsets, start, end, true);
      bytes += (ends.at(-1)! - ends[0]!) * itemSizeBytes(dtype);
    }
    return bytes + 64 * (end - start);
  }

  /** The parts of all columns that belong to rows `start` to `end`. */
  async read(start: number, end: number): Promise<Window> {
    const window = new Map<string, { bytes: Uint8Array<ArrayBuffer>; at(i: number): number }>();
    for (const [name, { dtype }] of Object.entries(plainColumns)) {
      if (!this.#places.has(name)) continue;
      const size = itemSizeBytes(dtype);
      window.set(name, { bytes: await this.#slice(name, start, end), at: (i) => i * size });
    }
    for (const [name, { dtype, offsets }] of Object.entries(raggedColumns)) {
      if (!this.#places.has(name)) continue;
      const size = itemSizeBytes(dtype);
      const ends = await this.#offsets(offsets, start, end);
      const bytes = await this.#slice(name, ends[0]!, ends.at(-1)!);
      window.set(name, { bytes, at: (i) => (ends[i]! - ends[0]!) * size });
    }
    return window;
  }

  /** Offsets `start` to `end` inclusive, or only these two; none is below the one before. */
  async #offsets(
    name: string,
    start: number,
    end: number,
    onlyEnds = false,
  ): Promise<number[]> {
    const parts = !onlyEnds || end === start
      ? [await this.#slice(name, start, end + 1)]
      : [await this.#slice(name, start, start + 1), await this.#slice(name, end, end + 1)];
    const ends = parts.flatMap(({ buffer }) => Array.from(new BigInt64Array(buffer), Number));
    const limit = Number.MAX_SAFE_INTEGER;
    for (const [i, at] of ends.entries()) {
      if (at >= (ends[i - 1] ?? 0) && at <= limit) continue;
      throw this.#wrong(`column ${name} goes back or is out of range at row ${start + i}`);
    }
    return ends;
  }

  async #slice(name: string, start: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const place = this.#places.get(name)!;
    if (end > place.shape[0]!) {
      throw this.#wrong(`column ${name} has ${place.shape[0]} values, its offsets name ${end}`);
    }
    const size = place.shape.slice(1).reduce((all, one) => all * one, itemSizeBytes(place.dtype));
    return await this.#source.read(place.byteOffset + start * size, (end - start) * size);
  }

  #checkColumn(name: string, dtype: DType, length: number): void {
    const place = this.#places.get(name);
    if (place === undefined) throw this.#wrong(`has no column ${name}`);
    const { shape } = place;
    if (place.dtype === dtype && shape.length === 1 && shape[0] === length) return;
    throw this.#wrong(
      `column ${name} should be ${dtype} (${length}), not ${place.dtype} (${shape.join(", ")})`,
    );
  }

  #wrong(reason: string): ValidationError {
    return new ValidationError(`${this.#source.name} ${reason}`);
  }
}

function toRecord(
  window: Window,
  i: number,
  { versions, reasons, where }: {
    readonly versions: readonly (number | string)[];
    readonly reasons: readonly string[];
    readonly where: string;
  },
): RolloutRecord {
  const view = (name: string): DataView<ArrayBuffer> | null => {
    const column = window.get(name);
    if (column === undefined) return null;
    const { bytes, at } = column;
    const start = at(i);
    return new DataView(bytes.buffer, bytes.byteOffset + start, at(i + 1) - start);
  };
  const int = (name: string) => view(name)?.getInt32(0, true);
  const flag = (name: string) => view(name)!.getUint8(0) !== 0;
  const ids = (name: string) => {
    const part = view(name);
    return part &&
      new Int32Array(part.buffer.slice(part.byteOffset, part.byteOffset + part.byteLength));
  };
  const text = (name: string) => {
    const part = view(name);
    return part && decode(part, `${where}: ${name}`);
  };
  const dialog = Number(view("dialog")!.getBigInt64(0, true));
  const logProbs = view("log_probs");
  const parent = int("parent") ?? -1;
  const reason = reasons[view("finish_reason")!.getUint8(0)];
  const finishReason = finishNames.find((name) => name === reason);
  if (finishReason === undefined) throw new ValidationError(`${where}: unknown finish_reason`);
  return {
    dialog,
    attempt: int("attempt")!,
    group: Number(view("group")?.getBigInt64(0, true) ?? dialog),
    member: int("member") ?? 0,
    environment: int("environment")!,
    turn: int("turn")!,
    parent: parent < 0 ? null : parent,
    branch: int("branch") ?? 0,
    messages: null,
    response: null,
    responseText: text("response_text") ?? "",
    promptIds: ids("prompt_ids")!,
    responseIds: ids("response_ids")!,
    logProbs: logProbs && new Float32Array(ids("log_probs")!.buffer),
    tokenVersions: versionsOf(ids("token_versions"), versions, where),
    versionsExact: flag("versions_exact"),
    weightVersions: spansOf(text("weight_versions"), where),
    ...routedOf(ids("routed_experts"), {
      start: int("routed_experts_start") ?? -1,
      tokens: int("routed_experts_tokens") ?? 0,
      where,
    }),
    server: text("server") || null,
    reward: view("reward")!.getFloat32(0, true),
    done: flag("done"),
    truncated: flag("truncated"),
    stale: flag("stale"),
    finishReason,
    info: infoOf(text("info"), where),
  };
}

function versionsOf(
  indexes: Int32Array | null,
  versions: readonly (number | string)[],
  where: string,
): RolloutRecord["tokenVersions"] {
  if (indexes === null) return null;
  return Array.from(indexes, (index) => {
    if (index < 0) return null;
    const version = versions[index];
    if (version !== undefined) return version;
    throw new ValidationError(`${where}: token_versions names version ${index}, which is none`);
  });
}

function routedOf(
  data: Int32Array | null,
  { start, tokens, where }: { start: number; tokens: number; where: string },
): Pick<RolloutRecord, "routedExperts"> {
  if (data === null || start < 0) return {};
  const perToken = tokens === 0 ? 0 : data.length / tokens;
  if (tokens >= 0 && Number.isInteger(perToken)) {
    return { routedExperts: { start, tokens, perToken, data } };
  }
  throw new ValidationError(`${where}: ${data.length} routed_experts do not fit ${tokens} tokens`);
}

function spansOf(text: string | null, where: string): RolloutRecord["weightVersions"] {
  if (text === null) return null;
  const value = parseJsonOfFile(text, `${where}: weight_versions`);
  if (value === null || isSpans(value)) return value;
  throw new ValidationError(`${where}: weight_versions should be a list of {version, start, end}`);
}

function infoOf(text: string | null, where: string): Record<string, unknown> {
  if (text === null) return {};
  const value = parseJsonOfFile(text, `${where}: info`);
  if (isRecord(value)) return value;
  throw new ValidationError(`${where}: info should be an object`);
}
