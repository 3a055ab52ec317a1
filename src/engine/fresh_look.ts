/**
 * Work that looks at something, shared by all who ask for it. Who asks while it runs gets one that
 * begins afterwards, together with all others who asked meanwhile: what runs may have looked before
 * the change that they know of.
 */
export class FreshLook {
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** Resolves after a look that began no sooner than this call. */
  take(look: () => Promise<void>): Promise<void> {
    if (this.#running === undefined) return this.#begin(look);
    this.#next ??= this.#running.catch(() => {}).then(() => {
      this.#next = undefined;
      return this.#begin(look);
    });
    return this.#next;
  }

  #begin(look: () => Promise<void>): Promise<void> {
    const running = look().finally(() => {
      if (this.#running === running) this.#running = undefined;
    });
    this.#running = running;
    return running;
  }
}
