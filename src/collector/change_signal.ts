/** Wakes everybody who waits for the next change. */
export class ChangeSignal {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next change. */
  get next(): Promise<void> {
    return this.#next.promise;
  }

  /** Wakes those who wait now. */
  announce(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }
}
