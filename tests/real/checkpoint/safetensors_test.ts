/** Files go to Python's safetensors and come back, byte for byte. */
import assert from "node:assert/strict";
import { join } from "node:path";
import {
  allDTypes,
  bfloat16ToFloat32,
  float32ToBFloat16,
  float32ToFloat16,
  openCheckpoint,
  tensorSizeBytes,
  type TensorToWrite,
  writeSafetensors,
} from "../../../src/checkpoint/mod.ts";
import { modelPath, pythonOf } from "../../_support/real.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const script = new URL("safetensors_io.py", import.meta.url).pathname;

async function python(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(pythonOf(), {
    args: [script, ...args],
    env: { LD_LIBRARY_PATH: "" },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Tensors of every element type, with an empty one, a scalar and names beyond ASCII. */
function samples(): TensorToWrite[] {
  const tensors = allDTypes.map((dtype, i): TensorToWrite => {
    const info = { name: `layer.${i}.${dtype}`, dtype, shape: [3, 5] };
    const data = crypto.getRandomValues(new Uint8Array(tensorSizeBytes(info)));
    if (dtype === "bool") data.forEach((byte, at) => data[at] = byte & 1);
    return { ...info, data };
  });
  tensors.push({ name: "empty", dtype: "float32", shape: [0, 4], data: new Uint8Array(0) });
  tensors.push({ name: "Größe", dtype: "int64", shape: [], data: BigInt64Array.of(-5n) });
  return tensors;
}

Deno.test("Python's safetensors reads what we write, with every element type", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "ours.safetensors");
  const tensors = samples();
  await writeSafetensors(path, tensors, { metadata: { format: "pt", note: "é" } });
  const read = JSON.parse(await python("describe", path));
  assert.deepEqual(read.metadata, { format: "pt", note: "é" });
  const expected = await Promise.all(tensors.map(async (tensor) => {
    const view = tensor.data as ArrayBufferView<ArrayBuffer>;
    const bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    return [tensor.name, {
      dtype: `torch.${tensor.dtype}`,
      shape: tensor.shape,
      sha256: await sha256(bytes),
    }];
  }));
  assert.deepEqual(read.tensors, Object.fromEntries(expected));
});

Deno.test("what Python's safetensors writes we read, and write again byte for byte", async () => {
  await using folder = await temporaryFolder();
  const theirs = join(folder.path, "theirs.safetensors");
  const description = JSON.parse(await python("write", theirs));
  await using checkpoint = await openCheckpoint(theirs);
  assert.deepEqual(checkpoint.metadata, description.metadata);
  const tensors = await Promise.all([...checkpoint.tensors.values()].map(async (tensor) => ({
    ...tensor,
    data: await checkpoint.read(tensor.name),
  })));
  const seen = await Promise.all(tensors.map(async ({ name, dtype, shape, data }) => {
    return [name, { dtype: `torch.${dtype}`, shape, sha256: await sha256(data) }];
  }));
  assert.deepEqual(Object.fromEntries(seen), description.tensors);
  const ours = join(folder.path, "ours.safetensors");
  await writeSafetensors(ours, tensors, { metadata: checkpoint.metadata });
  assert.deepEqual(await Deno.readFile(ours), await Deno.readFile(theirs));
});

Deno.test("a Hugging Face checkpoint that is written again has the same bytes", async () => {
  await using folder = await temporaryFolder();
  const original = modelPath("tiny");
  await using checkpoint = await openCheckpoint(original);
  const path = join(folder.path, "model.safetensors");
  const tensors = [...checkpoint.tensors.values()].map((tensor): TensorToWrite => ({
    ...tensor,
    async *data() {
      yield await checkpoint.read(tensor.name);
    },
  }));
  await writeSafetensors(path, tensors);
  const expected = await Deno.readFile(join(original, "model.safetensors"));
  assert.deepEqual(await Deno.readFile(path), expected);
});

Deno.test("float32 becomes bfloat16 and float16 with the same bits as in torch", async () => {
  await using folder = await temporaryFolder();
  const source = new Float32Array(1 << 18);
  const words = new Uint32Array(source.buffer);
  for (let at = 0; at < words.length; at += 16_384) {
    crypto.getRandomValues(words.subarray(at, at + 16_384));
  }
  // Ties, limits of the normal range and of rounding to infinity.
  words.set([
    0x3f808000,
    0x3f818000,
    0x7f7f7fff,
    0x7f7f8000,
    0x477fefff,
    0x477ff000,
    0x33000000,
    0x33000001,
  ]);
  const [f32, bf16, f16] = ["f32", "bf16", "f16"].map((name) => join(folder.path, name)) as [
    string,
    string,
    string,
  ];
  await Deno.writeFile(f32, new Uint8Array(source.buffer));
  await python("convert", f32, bf16, f16);
  const torchBf16 = new Uint16Array((await Deno.readFile(bf16)).buffer);
  const torchF16 = new Uint16Array((await Deno.readFile(f16)).buffer);
  const ourBf16 = float32ToBFloat16(source);
  const ourF16 = float32ToFloat16(source);
  let differing = 0;
  for (let i = 0; i < source.length; i++) {
    if (Number.isNaN(source[i])) {
      assert.ok(Number.isNaN(bfloat16ToFloat32(ourBf16.subarray(i, i + 1))[0]));
      continue;
    }
    if (ourBf16[i] !== torchBf16[i] || ourF16[i] !== torchF16[i]) differing++;
  }
  assert.equal(differing, 0);
});
