import type { Tensor } from "./model/weights.ts";
import type { DType } from "../checkpoint/dtype.ts";

const dtypes: Record<string, DType> = {
  F32: "float32",
  BF16: "bfloat16",
  F16: "float16",
  F64: "float64",
};

export async function* readSafetensors(folder: string): AsyncGenerator<Tensor> {
  const bytes = await Deno.readFile(`${folder}/model.safetensors`);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  for (
    const [name, entry] of Object.entries<
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >(header)
  ) {
    if (name === "__metadata__") continue;
    const [from, to] = entry.data_offsets;
    yield {
      name,
      dtype: dtypes[entry.dtype]!,
      shape: entry.shape,
      bytes: bytes.subarray(8 + length + from, 8 + length + to),
    };
  }
}
