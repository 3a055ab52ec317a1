import { StateError } from "../../errors.ts";

/** How many things of a {@linkcode SharedFeed} are valid at a time, unless it is told. */
const KEPT = 2;

/**
 * Things made once, in order, for several readers that each take all of them at their own pace. A
 * thing stays valid until as many more are made as can be kept, so the next is made only when every
 * reader is done with the oldest: the fastest reader is ahead of the slowest by less than that.
 */
export class SharedFeed<Made, Reader> {
  readonly #slots: PromiseWithResolvers<Made>[];
  readonly #make: (index: number) => Promise<Made>;
  /** How many each reader is done with. */
  readonly #done: Map<Reader, number>;
  readonly #kept: number;
  #made = 0;
  #isMaking = false;
  #end: Error | undefined;

  /** Makes nothing until {@linkcode SharedFeed.begin}; `kept` things are valid at a time. */
  constructor(
    count: number,
    readers: readonly Reader[],
    make: (index: number) => Promise<Made>,
    kept: number = KEPT,
  ) {
    this.#make = make;
    this.#kept = kept;
    this.#done = new Map(readers.map((reader) => [reader, 0]));
    this.#slots = Array.from({ length: count }, () => {
      const slot = Promise.withResolvers<Made>();
      // Whoever takes it sees the failure; until then it must not count as unhandled.
      slot.promise.catch(() => {});
      return slot;
    });
  }

  /** Makes the first, and lets the second follow. */
  async begin(): Promise<void> {
    this.#makeNext();
    await this.#slots[0]?.promise;
  }

  /** The thing with this index, once it is made. */
  take(index: number): Promise<Made> {
    return this.#slots[index]!.promise;
  }

  /** A reader needs the thing with this index no longer. */
  done(index: number, reader: Reader): void {
    if (this.#done.has(reader)) this.#done.set(reader, index + 1);
    this.#makeNext();
  }

  /** A reader takes no more. */
  leave(reader: Reader): void {
    this.#done.delete(reader);
    this.#makeNext();
  }

  /** Makes no more; who waits hears why. */
  stop(reason: Error): void {
    this.#end ??= reason;
    for (const slot of this.#slots.slice(this.#made)) slot.reject(reason);
  }

  #makeNext(): void {
    if (this.#isMaking || this.#end !== undefined || this.#made >= this.#slots.length) return;
    if (this.#done.size === 0) return this.stop(new StateError("Nobody reads any more"));
    if (this.#made - Math.min(...this.#done.values()) >= this.#kept) return;
    const index = this.#made;
    this.#isMaking = true;
    this.#make(index).then(
      (made) => {
        this.#isMaking = false;
        this.#made++;
        this.#slots[index]!.resolve(made);
        this.#makeNext();
      },
      (error) => this.stop(error),
    );
  }
}
