import { float32ToBFloat16 } from "../../checkpoint/convert.ts";
import { type TensorInfo, tensorSizeBytes } from "../../checkpoint/dtype.ts";
import type { DeviceMemory } from "../../collective/group.ts";
import type { OpenWeightSource, WeightSource } from "./source.ts";

/** The same weights with every float32 tensor rounded to bfloat16 as it is read. */
export function castToBFloat16(source: WeightSource): WeightSource {
  return {
    label: `${source.label}, float32 as bfloat16`,
    ...(source.fingerprint && { fingerprint: source.fingerprint.bind(source) }),
    async open(options) {
      return new CastingSource(await source.open(options));
    },
  };
}

class CastingSource implements OpenWeightSource {
  readonly tensors: readonly TensorInfo[];
  /** What is cast, for a group that does it on its device. */
  readonly wide: OpenWeightSource;
  readonly readsAtOnce: number | undefined;
  readonly #inner: OpenWeightSource;

  constructor(inner: OpenWeightSource) {
    this.wide = inner;
    this.readsAtOnce = inner.readsAtOnce;
    this.#inner = inner;
    this.tensors = inner.tensors.map((tensor) =>
      tensor.dtype === "float32" ? { ...tensor, dtype: "bfloat16" } : tensor
    );
  }

  view(index: number): Uint8Array | undefined {
    return this.#isCast(index) ? undefined : this.#inner.view(index);
  }

  device(index: number): DeviceMemory | readonly DeviceMemory[] | undefined {
    return this.#isCast(index) ? undefined : this.#inner.device?.(index);
  }

  async read(
    index: number,
    target: Uint8Array,
    options: { signal: AbortSignal },
  ): Promise<void> {
    if (!this.#isCast(index)) return await this.#inner.read(index, target, options);
    const wide = await this.#readWide(index, options);
    const isAligned = target.byteOffset % Uint16Array.BYTES_PER_ELEMENT === 0;
    if (isAligned) {
      float32ToBFloat16(wide, new Uint16Array(target.buffer, target.byteOffset, wide.length));
      return;
    }
    target.set(new Uint8Array(float32ToBFloat16(wide).buffer));
  }

  async confirm(options: { signal: AbortSignal }): Promise<void> {
    await this.#inner.confirm?.(options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#inner[Symbol.asyncDispose]();
  }

  #isCast(index: number): boolean {
    return this.#inner.tensors[index]!.dtype === "float32";
  }

  async #readWide(index: number, options: { signal: AbortSignal }): Promise<Float32Array> {
    const view = this.#inner.view(index);
    if (view !== undefined && view.byteOffset % Float32Array.BYTES_PER_ELEMENT === 0) {
      return new Float32Array(view.buffer, view.byteOffset, view.byteLength / 4);
    }
    const bytes = new Uint8Array(tensorSizeBytes(this.#inner.tensors[index]!));
    await this.#inner.read(index, bytes, options);
    return new Float32Array(bytes.buffer);
  }
}

/** The type that a tensor is cast from before it is sent; `undefined` where it is sent as it is. */
export function castFromOf(open: OpenWeightSource, index: number): "float32" | undefined {
  const wide = open.wide?.tensors[index]?.dtype;
  return wide === undefined || wide === open.tensors[index]!.dtype ? undefined : "float32";
}
