import { StateError, ValidationError } from "../errors.ts";

/** Which parts of a server's memory. */
export type MemoryTag = "kv_cache" | "weights" | "cuda_graph";

const ALL_TAGS: readonly MemoryTag[] = ["kv_cache", "weights", "cuda_graph"];

/**
 * What a client has released of its server's memory. SGLang ends when memory is released while
 * requests are there, released twice, or taken back without having been released
 * (`srt/managers/scheduler_update_weights_mixin.py`), so none of these is sent.
 */
export class ReleasedMemory {
  readonly #released = new Set<MemoryTag>();

  /** The tags that are released, as far as this client did it. */
  get tags(): readonly MemoryTag[] {
    return [...this.#released];
  }

  /** The tags to release; refuses those that are released. */
  toRelease(given: readonly MemoryTag[] | undefined): readonly MemoryTag[] {
    const tags = checked(given ?? ALL_TAGS);
    const twice = tags.filter((tag) => this.#released.has(tag));
    if (twice.length === 0) return tags;
    throw new StateError(
      `The memory of ${twice.join(", ")} is released already, and a second time would end the ` +
        "server. Take it back first",
    );
  }

  /** The tags to take back; refuses those that were not released. */
  toResume(
    given: readonly MemoryTag[] | undefined,
    wasReleasedElsewhere: boolean,
  ): readonly MemoryTag[] {
    if (wasReleasedElsewhere) return checked(given ?? ALL_TAGS);
    const tags = given === undefined ? this.tags : checked(given);
    const missing = tags.filter((tag) => !this.#released.has(tag));
    if (tags.length > 0 && missing.length === 0) return tags;
    throw new StateError(
      `The memory of ${
        missing.join(", ") || "the server"
      } was not released by this client, and to ` +
        "take it back would end the server. If another client released it give " +
        "`wasReleasedElsewhere: true`",
    );
  }

  /** Notes a release that was sent, whether or not its answer came. */
  released(tags: readonly MemoryTag[]): void {
    for (const tag of tags) this.#released.add(tag);
  }

  /** Notes what was taken back. */
  resumed(tags: readonly MemoryTag[]): void {
    for (const tag of tags) this.#released.delete(tag);
  }
}

function checked(tags: readonly MemoryTag[]): readonly MemoryTag[] {
  const unknown = tags.find((tag) => !ALL_TAGS.includes(tag));
  if (unknown === undefined && tags.length > 0) return [...new Set(tags)];
  throw new ValidationError(`tags must name some of ${ALL_TAGS.join(", ")}, got "${tags.join()}"`);
}
