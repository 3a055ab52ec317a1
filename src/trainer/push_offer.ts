import { type DType, isDType, type TensorInfo, tensorSizeBytes } from "../checkpoint/dtype.ts";
import { ProtocolError } from "../errors.ts";
import { isRecord } from "../internal/json.ts";
import { type PushedMemory, readMemory } from "./device_maps.ts";

/** What a trainer says of a LoRA adapter. */
export interface PushedAdapter {
  /** What the trainer calls it. */
  readonly name: string;
  /** Its `adapter_config.json`, as PEFT writes it. */
  readonly config: Readonly<Record<string, unknown>>;
}

/** What a trainer says that it wants to push. */
export interface PushOffer {
  /** Its number on this connection. */
  readonly id: number;
  /** What the trainer calls these weights; `null` leaves it to the sync. */
  readonly version: string | null;
  /** Whole weights, or a LoRA adapter. */
  readonly kind: "weights" | "adapter";
  /** Of an adapter: its name and its `adapter_config.json`. */
  readonly adapter: PushedAdapter | undefined;
  /** Every tensor, in the order in which the trainer has them. */
  readonly tensors: readonly TensorInfo[];
  /** What the tensors lie in, with the way `cuda-ipc`. */
  readonly memory: PushedMemory | undefined;
}

/** Most tensors of a push. */
const MAX_TENSORS = 1_000_000;

/**
 * Reads what a trainer says that it pushes.
 *
 * @throws {ProtocolError} It is nothing that can be taken.
 */
export function readOffer(message: Record<string, unknown>, trainer: string): PushOffer {
  const { push: id, version = null, kind, adapter, tensors, memory } = message;
  const fail = (what: string) => new ProtocolError(`trainer ${trainer} pushed ${what}`);
  if (!Number.isInteger(id) || (id as number) < 1 || (id as number) > 0xffff_ffff) {
    throw fail("without a number");
  }
  if (version !== null && (typeof version !== "string" || version.length > 500)) {
    throw fail("a version that is no short text");
  }
  if (kind !== "weights" && kind !== "adapter") throw fail("neither weights nor an adapter");
  if (!Array.isArray(tensors) || tensors.length === 0 || tensors.length > MAX_TENSORS) {
    throw fail("no list of tensors");
  }
  const names = new Set<string>();
  const read = tensors.map((tensor) => {
    const info = readTensor(tensor, fail);
    if (names.has(info.name)) throw fail(`"${info.name}" twice`);
    names.add(info.name);
    return info;
  });
  return {
    id: id as number,
    version,
    kind,
    adapter: kind === "adapter" ? readAdapter(adapter, fail) : undefined,
    tensors: read,
    memory: isRecord(memory) ? readMemory(memory, read) : undefined,
  };
}

function readTensor(value: unknown, fail: (what: string) => Error): TensorInfo {
  const [name, dtype, shape] = Array.isArray(value) ? value : [];
  const isShape = Array.isArray(shape) && shape.length <= 64 &&
    shape.every((size) => Number.isSafeInteger(size) && size >= 0);
  if (typeof name !== "string" || name === "" || name.length > 1000 || !isShape) {
    throw fail("a tensor that is no [name, type, shape]");
  }
  if (typeof dtype !== "string" || !isDType(dtype)) {
    throw fail(`"${name}" of an element type that is not known`);
  }
  const info = { name, dtype: dtype as DType, shape: shape as number[] };
  try {
    tensorSizeBytes(info);
  } catch {
    throw fail(`"${name}" with more elements than can be`);
  }
  return info;
}

function readAdapter(value: unknown, fail: (what: string) => Error): PushedAdapter {
  if (!isRecord(value) || typeof value.name !== "string" || value.name.length > 200) {
    throw fail("an adapter without a name");
  }
  return { name: value.name, config: isRecord(value.config) ? value.config : {} };
}
