import { deepEqual } from "node:assert/strict";
import type { DType } from "../../../src/checkpoint/dtype.ts";
import {
  flattenedPayload,
  namedPayload,
  type PlacedTensor,
} from "../../../src/weights/ipc/payload.ts";
import { cpuEnv, pythonOf } from "../../_support/real.ts";

const script = new URL("./unpickle.py", import.meta.url).pathname;

const tensors: (PlacedTensor & { byteLength: number })[] = [];
let end = 0;
for (
  const [name, dtype, shape, byteLength] of [
    ["embed", "float64", [3, 2], 48],
    ["norm", "float32", [5], 20],
    ["step", "int64", [], 8],
    ["proj.weight", "bfloat16", [2, 3, 2], 24],
    ["größe", "float16", [300], 600],
    ["scale", "float8_e4m3fn", [7], 7],
    ["mask", "bool", [1, 9], 9],
    ["ids", "uint8", [70_000], 70_000],
  ] as [string, DType, number[], number][]
) {
  tensors.push({ name, dtype, shape, offset: end, byteLength });
  end = Math.ceil((end + byteLength) / 8) * 8;
}
const memory = new Uint8Array(end).map((_, i) => (i * 7) % 2);
const shared = {
  handle: new Uint8Array(64).map((_, i) => 255 - i),
  deviceUuid: "0123abcd-4567-89ab-cdef-0123456789ab",
};

async function unpickle(version: "0.5.16" | "0.5.23", payload: string) {
  const child = new Deno.Command(pythonOf(version), {
    args: ["-W", "ignore", script],
    env: cpuEnv,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(`${payload}\n${memory.toBase64()}\n`));
  await input.close();
  const { code, stdout, stderr } = await child.output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
  return JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
}

const expected = tensors.map(({ name, dtype, shape, offset, byteLength }) => ({
  name,
  dtype: `torch.${dtype}`,
  shape,
  bytes: memory.subarray(offset, offset + byteLength).toHex(),
}));
const call = (bytes: number) => ({
  device: shared.deviceUuid,
  handle: shared.handle.toHex(),
  bytes,
});

for (const version of ["0.5.16", "0.5.23"] as const) {
  Deno.test(`SGLang ${version} reads a flattened payload back as the tensors it names`, async () => {
    const read = await unpickle(version, flattenedPayload(tensors, shared));
    const last = tensors.at(-1)!;
    deepEqual(read.calls, [call(last.offset + last.byteLength)]);
    deepEqual(read.tensors, expected);
  });

  Deno.test(`SGLang ${version} reads a payload of names with tensors back`, async () => {
    const read = await unpickle(version, namedPayload(tensors, shared));
    deepEqual(read.calls, tensors.map(({ byteLength }) => call(byteLength)));
    deepEqual(read.tensors, expected);
  });
}
