/** The tensors of `/load_lora_adapter_from_tensors`, read as SGLang reads them. */
import type { DType } from "../../checkpoint/mod.ts";
import { isDType, itemSizeBytes } from "../../checkpoint/mod.ts";
import type { Tensor } from "../model/weights.ts";
import { type PickledGlobal, type PickledObject, unpickle } from "./unpickle.ts";

interface Storage {
  readonly dtype: DType;
  readonly bytes: Uint8Array;
}

interface Unnamed {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

const STORAGES: Readonly<Record<string, DType>> = {
  ByteStorage: "uint8",
  FloatStorage: "float32",
  HalfStorage: "float16",
  BFloat16Storage: "bfloat16",
};

/** Reads a payload. Throws for what SGLang does not allow: its scheduler then ends. */
export function readPickledTensors(payload: Uint8Array, format: unknown): Tensor[] {
  const value = unpickle(payload, { call }).value;
  if (!(value instanceof Map)) throw new Error("The payload is no dict of tensors");
  if (format !== "flattened_bucket") {
    return Array.from(value as Map<string, Unnamed>, ([name, tensor]) => ({ name, ...tensor }));
  }
  const flat = value.get("flattened_tensor") as Unnamed;
  return (value.get("metadata") as PickledObject[]).map(({ fields }) => ({
    name: fields.get("name") as string,
    shape: fields.get("shape") as number[],
    dtype: dtypeOf(fields.get("dtype")),
    bytes: flat.bytes.subarray(fields.get("start_idx") as number, fields.get("end_idx") as number),
  }));
}

function call(callable: PickledGlobal, args: readonly unknown[]): unknown {
  const name = `${callable.module}.${callable.name}`;
  switch (name) {
    case "torch.Size":
      return args[0];
    case "collections.OrderedDict":
      return new Map();
    case "torch.storage._load_from_bytes":
      return loadStorage(args[0] as Uint8Array);
    case "torch._utils._rebuild_tensor_v2":
      return rebuild(args);
    default:
      throw new Error(
        `Blocked unsafe global (${name}) during pickle deserialization`,
      );
  }
}

/** A file of `torch.save` in its old format: five pickles, the length, the bytes. */
function loadStorage(file: Uint8Array): Storage {
  const nothing = { call: () => undefined };
  let at = 0;
  let storage: Storage | undefined;
  for (let part = 0; part < 5; part++) {
    const read = unpickle(file, {
      ...nothing,
      persistent: (id) => {
        const [, type, , , count] = id as [string, PickledGlobal, string, string, number];
        const dtype = STORAGES[type.name];
        if (dtype === undefined) throw new Error(`A ${type.name} is not read`);
        storage = { dtype, bytes: new Uint8Array(count * itemSizeBytes(dtype)) };
        return storage;
      },
    }, at);
    at = read.end;
  }
  if (storage === undefined) throw new Error("The storage has no bytes");
  storage.bytes.set(file.subarray(at + 8, at + 8 + storage.bytes.length));
  return storage;
}

function rebuild(args: readonly unknown[]): Unnamed {
  const [storage, offset, shape] = args as [Storage, number, number[]];
  const { dtype, bytes } = storage;
  const size = itemSizeBytes(dtype);
  const count = shape.reduce((total, n) => total * n, 1);
  return { dtype, shape, bytes: bytes.subarray(offset * size, (offset + count) * size) };
}

/** The element type that a pickle names: `torch.float32`. */
export function dtypeOf(value: unknown): DType {
  const name = typeof value === "object" && value !== null && "name" in value
    ? String(value.name)
    : String(value);
  if (isDType(name)) return name;
  throw new Error(`No element type: ${name}`);
}
