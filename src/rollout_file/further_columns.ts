/** Columns of a safetensors file that no schema knows, row by row as JSON. */
import type { TensorPlace } from "../checkpoint/header.ts";
import { type DType, itemSizeBytes } from "../checkpoint/dtype.ts";
import { realText } from "./row_line.ts";

/** One column: where the values of each row are. */
export interface FurtherColumn {
  readonly name: string;
  readonly place: TensorPlace;
  /** The column with the offsets of its rows; absent where each row has as many values. */
  readonly offsets: string | undefined;
}

/** What a line of JSON has under these names is not the column's. */
const taken = new Set(["schema", "messages", "response"]);

const readers: Readonly<Partial<Record<DType, (view: DataView, at: number) => string>>> = {
  float64: (view, at) => realText(view.getFloat64(at, true)),
  float32: (view, at) => realText(view.getFloat32(at, true)),
  float16: (view, at) => realText(view.getFloat16(at, true)),
  bfloat16: (view, at) => realText(bfloat16(view.getUint16(at, true))),
  int64: (view, at) => String(view.getBigInt64(at, true)),
  int32: (view, at) => String(view.getInt32(at, true)),
  int16: (view, at) => String(view.getInt16(at, true)),
  int8: (view, at) => String(view.getInt8(at)),
  uint8: (view, at) => String(view.getUint8(at)),
  bool: (view, at) => String(view.getUint8(at) !== 0),
};

/** The columns besides the known ones that belong to the rows of a file. */
export function furtherColumns(
  places: ReadonlyMap<string, TensorPlace>,
  isKnown: (name: string) => boolean,
  rows: number,
): FurtherColumn[] {
  const isOffsets = (name: string) => {
    const place = places.get(name);
    return place?.dtype === "int64" && place.shape.length === 1 && place.shape[0] === rows + 1;
  };
  return [...places].flatMap(([name, place]): FurtherColumn[] => {
    if (isKnown(name) || taken.has(name) || readers[place.dtype] === undefined) return [];
    const offsets = `${name}_offsets`;
    if (isOffsets(offsets)) return [{ name, place, offsets }];
    // Offsets go with their column.
    if (isOffsets(name) && places.has(name.replace(/_offsets$/, ""))) return [];
    return place.shape[0] === rows ? [{ name, place, offsets: undefined }] : [];
  });
}

/** Values from one on in a column, as JSON: a list for each dimension but that of the rows. */
export function columnText(
  { place, offsets }: FurtherColumn,
  bytes: Uint8Array,
  { start, end }: { readonly start: number; readonly end: number },
): string {
  const inner = place.shape.slice(1);
  const width = inner.reduce((product, size) => product * size, 1);
  const read = readers[place.dtype]!;
  const size = itemSizeBytes(place.dtype);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const nested = (shape: readonly number[], at: number): string => {
    const [first, ...rest] = shape;
    if (first === undefined) return read(view, at * size);
    const step = rest.reduce((product, size) => product * size, 1);
    return `[${Array.from({ length: first }, (_, i) => nested(rest, at + i * step)).join()}]`;
  };
  return offsets === undefined
    ? nested(inner, start * width)
    : nested([end - start, ...inner], start * width);
}

function bfloat16(bits: number): number {
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;
}
