import { StateError } from "../errors.ts";

/** Where the next bytes go. */
export interface Landing {
  /** How many. */
  readonly length: number;
  /** Their place; `undefined` when nobody wants them any more. */
  readonly target: Uint8Array | undefined;
  /** To be called when they are there, or when they will not come. */
  done(failure?: Error): void;
}

/** Tensors of one push that were asked for, in the order in which their bytes come. */
export class Wants {
  readonly #sizes: readonly number[];
  readonly #queue: Want[] = [];
  #first = 0;
  #landed = 0;
  #failure: Error | undefined;

  /** For tensors of these sizes in bytes. */
  constructor(sizes: readonly number[]) {
    this.#sizes = sizes;
  }

  /** Tensors that were taken whole. */
  get landed(): number {
    return this.#landed;
  }

  /** Asks for a tensor. */
  add(index: number, target: Uint8Array): Want {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#sizes[index] !== target.length) {
      throw new StateError(`Tensor ${index} has ${this.#sizes[index]} bytes, not ${target.length}`);
    }
    const want = new Want(target, () => this.#landed++);
    this.#queue.push(want);
    return want;
  }

  /** Place for up to `most` bytes that have come; `undefined` when none were asked for. */
  land(most: number): Landing | undefined {
    while (this.#queue[this.#first]?.isGiven) this.#first++;
    if (this.#first > 1024) {
      this.#queue.splice(0, this.#first);
      this.#first = 0;
    }
    return this.#queue[this.#first]?.land(most);
  }

  /** No more bytes come: whoever waits, or asks later, hears why. */
  fail(reason: Error): void {
    this.#failure ??= reason;
    for (const want of this.#queue) want.cancel(reason);
  }
}

/** One tensor that was asked for. */
export class Want {
  readonly #done = Promise.withResolvers<void>();
  readonly #target: Uint8Array;
  readonly #onLanded: () => void;
  #given = 0;
  #landed = 0;
  #busy = 0;
  #failure: Error | undefined;

  /** Fills `target`. */
  constructor(target: Uint8Array, onLanded: () => void) {
    this.#target = target;
    this.#onLanded = onLanded;
    this.#done.promise.catch(() => {});
  }

  /** Resolves when all bytes are there; rejects when no thread writes to the target any more. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Whether bytes are being written to the target. */
  get isBusy(): boolean {
    return this.#busy > 0;
  }

  /** Whether all its bytes have a landing. */
  get isGiven(): boolean {
    return this.#given === this.#target.length;
  }

  /** Nobody wants it any more; its bytes, which still come, are dropped. */
  cancel(reason: Error): void {
    this.#failure ??= reason;
    if (this.#busy === 0) this.#done.reject(this.#failure);
  }

  /** Place for its next bytes. */
  land(most: number): Landing {
    const from = this.#given;
    const length = Math.min(most, this.#target.length - from);
    this.#given += length;
    if (this.#failure !== undefined) return { length, target: undefined, done() {} };
    this.#busy++;
    return {
      length,
      target: this.#target.subarray(from, from + length),
      done: (failure) => {
        this.#busy--;
        this.#failure ??= failure;
        this.#landed += length;
        if (this.#failure !== undefined) return this.cancel(this.#failure);
        if (this.#landed < this.#target.length) return;
        this.#onLanded();
        this.#done.resolve();
      },
    };
  }
}
