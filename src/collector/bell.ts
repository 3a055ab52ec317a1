/** Wakes everybody who waits for the next change. */
export class Bell {
  #next = Promise.withResolvers<void>();

  /** Resolves at the next ring. */
  get rung(): Promise<void> {
    return this.#next.promise;
  }

  /** Wakes those who wait now. */
  ring(): void {
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }
}
