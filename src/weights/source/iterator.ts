import type { TensorInfo } from "../../checkpoint/dtype.ts";
import { StateError, ValidationError } from "../../errors.ts";
import type { OpenWeightSource, WeightSource } from "./source.ts";
import { describeTensor, type WeightTensor } from "./tensor.ts";

/** A tensor with its name. */
export interface NamedWeight extends WeightTensor {
  /** Full name as in a Hugging Face checkpoint. */
  readonly name: string;
}

/** A function that gives the weights one by one; called again for every sync. */
export type WeightIterator = (
  signal: AbortSignal,
) => AsyncIterable<NamedWeight> | Iterable<NamedWeight>;

/**
 * Weights from a function that yields them one by one, so that only one need be in memory.
 *
 * Everything is checked before anything is sent, so the names must be known first: give `tensors`
 * in the order in which they come, or the function is called twice for each sync, first for the
 * names only.
 *
 * @throws {ValidationError} While a sync reads: a tensor differs from `tensors` or from the first
 * call, or the function ends early.
 */
export function weightIterator(
  weights: WeightIterator,
  options: { tensors?: readonly TensorInfo[] | undefined } = {},
): WeightSource {
  return {
    label: "weight iterator",
    async open({ signal } = {}) {
      const stop = new AbortController();
      const onAbort = () => stop.abort(signal?.reason);
      signal?.throwIfAborted();
      signal?.addEventListener("abort", onAbort, { once: true });
      try {
        const tensors = options.tensors ?? await namesOf(weights, stop.signal);
        return new OpenIterator(tensors, () => weights(stop.signal), () => {
          signal?.removeEventListener("abort", onAbort);
          stop.abort(new Error("The sync has ended"));
        });
      } catch (error) {
        signal?.removeEventListener("abort", onAbort);
        throw error;
      }
    },
  };
}

async function namesOf(weights: WeightIterator, signal: AbortSignal): Promise<TensorInfo[]> {
  const tensors: TensorInfo[] = [];
  for await (const weight of weights(signal)) {
    signal.throwIfAborted();
    tensors.push(describeTensor(weight.name, weight).info);
  }
  if (tensors.length === 0) throw new ValidationError("The weight iterator gave no tensor");
  return tensors;
}

class OpenIterator implements OpenWeightSource {
  readonly tensors: readonly TensorInfo[];
  readonly #start: () => AsyncIterable<NamedWeight> | Iterable<NamedWeight>;
  readonly #end: () => void;
  #iterator: AsyncIterator<NamedWeight> | Iterator<NamedWeight> | undefined;
  #position = -1;

  constructor(
    tensors: readonly TensorInfo[],
    start: () => AsyncIterable<NamedWeight> | Iterable<NamedWeight>,
    end: () => void,
  ) {
    this.tensors = tensors;
    this.#start = start;
    this.#end = end;
  }

  view(): undefined {
    return undefined;
  }

  async read(index: number, target: Uint8Array): Promise<void> {
    if (index <= this.#position) {
      throw new StateError(`Tensor ${index} of the weight iterator was read out of order`);
    }
    this.#iterator ??= iteratorOf(this.#start());
    while (this.#position < index) {
      const { done, value } = await this.#iterator.next();
      const expected = this.tensors[++this.#position]!;
      if (done) {
        throw new ValidationError(
          `The weight iterator ended before "${expected.name}", tensor ${this.#position + 1} of ` +
            `${this.tensors.length}`,
        );
      }
      const { info, bytes } = describeTensor(value.name, value);
      requireSame(expected, info);
      if (this.#position === index) target.set(bytes);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
    await this.#iterator?.return?.();
  }
}

function iteratorOf<T>(iterable: AsyncIterable<T> | Iterable<T>): AsyncIterator<T> | Iterator<T> {
  return Symbol.asyncIterator in iterable
    ? iterable[Symbol.asyncIterator]()
    : iterable[Symbol.iterator]();
}

function requireSame(expected: TensorInfo, got: TensorInfo): void {
  if (
    expected.name === got.name && expected.dtype === got.dtype &&
    expected.shape.join() === got.shape.join()
  ) return;
  throw new ValidationError(
    `The weight iterator gave "${got.name}" (${got.dtype} [${got.shape}]) where "${expected.name}" ` +
      `(${expected.dtype} [${expected.shape}]) was announced`,
  );
}
