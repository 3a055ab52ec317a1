import { CheckpointError, LimitError, SGLangError } from "../errors.ts";
import {
  fromSafetensorsName,
  type TensorInfo,
  tensorSizeBytes,
  toSafetensorsName,
} from "./dtype.ts";
import { inBrief } from "../internal/brief.ts";
import { isCount, isRecord } from "../internal/json.ts";
import { decodeJson, entriesOf, namedTwice, parseValue } from "./json.ts";

/**
 * The layout of a safetensors file: a u64 length (little-endian), that many bytes of JSON, then the
 * tensors' bytes without gap or overlap.
 *
 * Source: safetensors `tensor.rs` (`SafeTensors::read_metadata`, `Metadata::validate`); the same
 * files are refused here.
 */

/** Longest header that safetensors reads. */
export const MAX_HEADER_BYTES = 100_000_000;
/** What is read unless more is asked for: some 200,000 tensors in one file. */
export const DEFAULT_HEADER_BYTES = 16 * 2 ** 20;
/** Most tensors of a checkpoint, over all its files; the largest models have some 150,000. */
export const DEFAULT_TENSORS = 300_000;
/** Longest description of one tensor; 64 dimensions take some 1,500 characters. */
const MAX_ENTRY_CHARACTERS = 64 * 1024;
/** Most entries of `__metadata__`, which mostly has a handful. */
const DEFAULT_METADATA = 10_000;
/** Most dimensions of a tensor, as in PyTorch and numpy. */
const MAX_DIMENSIONS = 64;
/** Bytes of the length field before the header. */
export const LENGTH_FIELD_BYTES = 8;

/** A tensor and where its bytes lie, counted from the start of the file. */
export interface TensorPlace extends TensorInfo {
  /** First byte in the file. */
  readonly byteOffset: number;
  /** Number of bytes. */
  readonly byteLength: number;
}

/** What a header says. */
export interface Header {
  /** Tensors in the order of their bytes. */
  readonly tensors: readonly TensorPlace[];
  /** The `__metadata__` entry. */
  readonly metadata: Readonly<Record<string, string>>;
}

/** Reads the length of the header, checked against the size of the file. */
export function parseHeaderLength(
  field: Uint8Array,
  fileBytes: number,
  maxBytes = DEFAULT_HEADER_BYTES,
): number {
  const view = new DataView(field.buffer, field.byteOffset, field.byteLength);
  const length = view.getBigUint64(0, true);
  const room = fileBytes - LENGTH_FIELD_BYTES;
  if (length > BigInt(room)) {
    throw new CheckpointError(`header of ${length} bytes in a file that has room for ${room}`);
  }
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new CheckpointError(`header of ${length} bytes, limit ${MAX_HEADER_BYTES}`);
  }
  if (length > BigInt(maxBytes)) {
    throw new LimitError(`header of ${length} bytes, more than maxHeaderBytes, ${maxBytes}`, {
      limit: "maxHeaderBytes",
      max: maxBytes,
    });
  }
  return Number(length);
}

/**
 * Reads and validates a header.
 *
 * @throws {CheckpointError} Does not name the file.
 * @throws {LimitError} It has more than `maxTensors` or `maxMetadata`; does not name the file.
 */
export function parseHeader(
  header: Uint8Array,
  fileBytes: number,
  maxTensors = DEFAULT_TENSORS,
  maxMetadata = DEFAULT_METADATA,
): Header {
  const dataOffset = LENGTH_FIELD_BYTES + header.length;
  const tensors: TensorPlace[] = [];
  const names = new Set<string>();
  let metadata: Record<string, string> = {};
  for (const [name, text] of entriesOf(decodeJson(header, "header"), "header")) {
    if (names.has(name)) throw namedTwice("header", name);
    if (names.size > maxTensors) throw tooManyTensors(maxTensors);
    names.add(name);
    if (name === "__metadata__") metadata = parseMetadata(text, maxMetadata);
    else tensors.push(parseEntry(name, text, dataOffset));
  }
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(tensors, { dataOffset, fileBytes });
  return { tensors, metadata };
}

/** The error for a checkpoint of too many tensors. */
export function tooManyTensors(max: number): LimitError {
  return new LimitError(`more tensors than maxTensors, ${max}`, { limit: "maxTensors", max });
}

function parseEntry(name: string, text: string, dataOffset: number): TensorPlace {
  const what = `tensor ${inBrief(name, 300)}`;
  if (text.length > MAX_ENTRY_CHARACTERS) {
    throw new CheckpointError(
      `${what} is described by ${text.length} characters, limit ${MAX_ENTRY_CHARACTERS}`,
    );
  }
  const entry = parseValue(text, what);
  if (!isRecord(entry)) throw new CheckpointError(`${what} is described by no object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string") throw new CheckpointError(`${what} has no dtype`);
  if (!isSizeList(shape)) throw new CheckpointError(`${what} has a malformed shape`);
  if (!isSizeList(offsets) || offsets.length !== 2) {
    throw new CheckpointError(`${what} has malformed data_offsets`);
  }
  const [start, end] = offsets as [number, number];
  try {
    const info: TensorInfo = { name, dtype: fromSafetensorsName(dtype), shape };
    const expected = tensorSizeBytes(info);
    if (end - start === expected) {
      return { ...info, byteOffset: dataOffset + start, byteLength: expected };
    }
    throw new CheckpointError(
      `[${shape.join(", ")}] of ${dtype} takes ${expected} bytes, but data_offsets ` +
        `[${start}, ${end}] give ${end - start}`,
    );
  } catch (error) {
    if (!(error instanceof SGLangError)) throw error;
    throw new CheckpointError(`${what}: ${error.message}`, { cause: error });
  }
}

function checkLayout(
  tensors: readonly TensorPlace[],
  file: { dataOffset: number; fileBytes: number },
): void {
  let end = file.dataOffset;
  for (const tensor of tensors) {
    if (tensor.byteOffset < end) {
      throw new CheckpointError(`tensor ${inBrief(tensor.name, 300)} overlaps the one before it`);
    }
    if (tensor.byteOffset > end) {
      throw new CheckpointError(
        `${tensor.byteOffset - end} bytes before tensor ${
          inBrief(tensor.name, 300)
        } belong to no tensor`,
      );
    }
    end += tensor.byteLength;
  }
  if (end === file.fileBytes) return;
  throw new CheckpointError(
    end > file.fileBytes
      ? `the tensors end at byte ${end}, the file at ${file.fileBytes}: it was cut short`
      : `${file.fileBytes - end} bytes after the last tensor belong to none`,
  );
}

function parseMetadata(json: string, max: number): Record<string, string> {
  if (!json.startsWith("{")) throw new CheckpointError("__metadata__ is no object");
  const entries = new Map<string, string>();
  for (const [name, text] of entriesOf(json, "__metadata__")) {
    if (entries.has(name)) throw namedTwice("header", name);
    if (entries.size === max) {
      throw new LimitError(`__metadata__ has more entries than maxMetadata, ${max}`, {
        limit: "maxMetadata",
        max,
      });
    }
    if (!text.startsWith('"')) {
      throw new CheckpointError(`__metadata__ entry ${inBrief(name)} is no string`);
    }
    entries.set(name, parseValue(text, "__metadata__") as string);
  }
  return Object.fromEntries(entries);
}

function isSizeList(value: unknown): value is number[] {
  return Array.isArray(value) && value.length <= MAX_DIMENSIONS &&
    value.every(isCount);
}

/**
 * Makes the length field and the header for tensors that follow each other in the given order. The
 * header is filled up with spaces, so that the data begins at a multiple of 8 bytes.
 */
export function encodeHeader(
  tensors: readonly TensorInfo[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array<ArrayBuffer> {
  const entries: Array<[string, unknown]> = [];
  if (Object.keys(metadata).length > 0) entries.push(["__metadata__", metadata]);
  let offset = 0;
  for (const tensor of tensors) {
    const end = offset + tensorSizeBytes(tensor);
    entries.push([tensor.name, {
      dtype: toSafetensorsName(tensor.dtype),
      shape: tensor.shape,
      data_offsets: [offset, end],
    }]);
    offset = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const length = Math.ceil(text.length / 8) * 8;
  const header = new Uint8Array(LENGTH_FIELD_BYTES + length).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(text, LENGTH_FIELD_BYTES);
  return header;
}
