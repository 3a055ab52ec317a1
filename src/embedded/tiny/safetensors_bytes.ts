/** Writes tensors in the safetensors format: header length, JSON header, data. */
import type { TensorInfo } from "../../checkpoint/dtype.ts";

const typeNames = { float32: "F32", bfloat16: "BF16" } as const;

/** Element types of a tiny checkpoint. */
export type TinyDType = keyof typeof typeNames;

/** A file of `float32` values, stored as `dtype`. */
export function safetensorsBytes(
  tensors: readonly (Pick<TensorInfo, "name" | "shape"> & { values: Float32Array })[],
  dtype: TinyDType,
): Uint8Array<ArrayBuffer> {
  const itemSize = dtype === "float32" ? 4 : 2;
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let offset = 0;
  for (const { name, shape, values } of tensors) {
    const end = offset + values.length * itemSize;
    header[name] = { dtype: typeNames[dtype], shape, data_offsets: [offset, end] };
    offset = end;
  }
  const json = JSON.stringify(header);
  // Spaces at the end of the header align the data to 8 bytes, as the format asks.
  const head = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  const bytes = new Uint8Array(8 + head.length + offset);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(head.length), true);
  bytes.set(head, 8);
  let at = 8 + head.length;
  for (const { values } of tensors) {
    for (const value of values) {
      if (dtype === "float32") view.setFloat32(at, value, true);
      else view.setUint16(at, bfloat16Bits(value), true);
      at += itemSize;
    }
  }
  return bytes;
}

const scratch = new DataView(new ArrayBuffer(4));

/** The nearest bfloat16; halves go to the even one. */
function bfloat16Bits(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  return (bits + 0x7fff + (bits >>> 16 & 1)) >>> 16;
}
