import type { TensorInfo } from "../../checkpoint/dtype.ts";
import type { DeviceMemory } from "../../collective/group.ts";
import { UnsupportedError, ValidationError } from "../../errors.ts";
import type { OpenWeightSource, WeightSource } from "./source.ts";
import {
  describeDeviceTensor,
  describeTensor,
  type DeviceTensor,
  isDeviceTensor,
  isWeightTensor,
  type WeightTensor,
} from "./tensor.ts";

/** Tensors by full name, as `state_dict()` gives them. */
export type StateDict =
  | ReadonlyMap<string, WeightTensor | DeviceTensor>
  | { readonly [name: string]: WeightTensor | DeviceTensor };

/** Tensors in folders of folders; full names are the path, joined with ".". */
export interface TensorDict {
  /** A tensor or a folder. */
  readonly [name: string]: WeightTensor | DeviceTensor | TensorDict;
}

/**
 * Weights from a flat state dict. The tensors are sent from where they lie, not copied: leave them
 * unchanged while a sync runs.
 *
 * @throws {ValidationError} An entry is not a tensor, or its data and shape disagree.
 *
 * @example
 * ```ts
 * import { stateDict } from "@sglang-rl/sglang-rl";
 *
 * const source = stateDict({ "model.norm.weight": { data: new Float32Array(64), shape: [64] } });
 * ```
 */
export function stateDict(tensors: StateDict): WeightSource {
  const entries = tensors instanceof Map ? [...tensors] : Object.entries(tensors);
  for (const [name, tensor] of entries) {
    if (isWeightTensor(tensor) || isDeviceTensor(tensor)) continue;
    throw new ValidationError(
      `State dict entry "${name}" is not a tensor of { data, shape }; for nested weights use the ` +
        `strategy "tensordict"`,
    );
  }
  return memorySource("state dict", entries);
}

/**
 * Weights from nested folders of tensors, named by their path joined with ".". A flat state dict is
 * one too.
 *
 * @throws {ValidationError} An entry is neither tensor nor folder, two have the same full name, or
 * a tensor's data and shape disagree.
 */
export function tensorDict(tensors: TensorDict): WeightSource {
  const found = new Map<string, WeightTensor | DeviceTensor>();
  collect(tensors, "", found);
  return memorySource("tensordict", [...found]);
}

function collect(
  folder: TensorDict,
  prefix: string,
  into: Map<string, WeightTensor | DeviceTensor>,
): void {
  for (const [key, value] of folder instanceof Map ? folder : Object.entries(folder)) {
    const name = `${prefix}${key}`;
    if (!isWeightTensor(value) && !isDeviceTensor(value)) {
      if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) {
        throw new ValidationError(
          `Weights at "${name}" are neither a tensor of { data, shape } nor a folder of tensors`,
        );
      }
      collect(value, `${name}.`, into);
      continue;
    }
    if (into.has(name)) throw new ValidationError(`Two weights have the full name "${name}"`);
    into.set(name, value);
  }
}

interface Described {
  readonly info: TensorInfo;
  readonly bytes?: Uint8Array;
  readonly device?: DeviceMemory;
}

function describe(name: string, tensor: WeightTensor | DeviceTensor): Described {
  return isDeviceTensor(tensor) ? describeDeviceTensor(name, tensor) : describeTensor(name, tensor);
}

function memorySource(
  kind: string,
  entries: [string, WeightTensor | DeviceTensor][],
): WeightSource {
  if (entries.length === 0) throw new ValidationError(`The ${kind} holds no tensor`);
  const described = entries.map(([name, tensor]) => describe(name, tensor));
  const open: OpenWeightSource = {
    tensors: described.map(({ info }) => info),
    view: (index) => described[index]?.bytes,
    device: (index) => described[index]?.device,
    read(index, target) {
      const { info, bytes } = described[index]!;
      if (bytes === undefined) return Promise.reject(onlyOnDevice(info));
      target.set(bytes);
      return Promise.resolve();
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  return {
    label: `${kind} of ${entries.length} tensors`,
    open: () => Promise.resolve(open),
  };
}

function onlyOnDevice({ name }: TensorInfo): UnsupportedError {
  return new UnsupportedError(`Weight "${name}" lies in device memory and cannot be read here`);
}
