/**
 * Keys and values of ended requests, for those that begin alike. Like the real server's radix
 * cache it outlives a weight update that does not flush it, and then mixes old and new weights.
 */
import type { KvCache } from "../model/kv_cache.ts";

interface Entry {
  readonly ids: readonly number[];
  readonly cache: KvCache;
  /** Id of the adapter that made it: others, and the model alone, make other values. */
  readonly adapter: string | undefined;
}

/** A few recent sequences, the least recently used dropped first. */
export class PrefixCache {
  readonly #maxTokens: number;
  #entries: Entry[] = [];
  #tokens = 0;

  constructor(maxTokens: number) {
    this.#maxTokens = maxTokens;
  }

  /** Number of cached tokens. */
  get tokens(): number {
    return this.#tokens;
  }

  /** A copy of the longest cached beginning of `ids`, at most `limit` tokens; `null` for none. */
  take(ids: readonly number[], limit: number, adapter?: string): KvCache | null {
    let best: Entry | undefined;
    let bestLength = 0;
    for (const entry of this.#entries) {
      if (entry.adapter !== adapter) continue;
      const most = Math.min(limit, entry.ids.length);
      let length = 0;
      while (length < most && entry.ids[length] === ids[length]) length++;
      if (length <= bestLength) continue;
      best = entry;
      bestLength = length;
    }
    if (best === undefined) return null;
    this.#entries = [...this.#entries.filter((entry) => entry !== best), best];
    return best.cache.prefix(bestLength);
  }

  /** Keeps the sequence of an ended request. */
  put(ids: readonly number[], cache: KvCache, adapter?: string): void {
    const entry: Entry = { ids: ids.slice(0, cache.length), cache, adapter };
    if (entry.ids.length === 0 || entry.ids.length > this.#maxTokens) return;
    const covered = (other: Entry) =>
      other.adapter === adapter && other.ids.length <= entry.ids.length &&
      other.ids.every((id, i) => id === entry.ids[i]);
    this.#entries = [...this.#entries.filter((other) => !covered(other)), entry];
    this.#tokens = this.#entries.reduce((total, { ids }) => total + ids.length, 0);
    while (this.#tokens > this.#maxTokens) this.#tokens -= this.#entries.shift()!.ids.length;
  }

  /** Drops everything. */
  clear(): void {
    this.#entries = [];
    this.#tokens = 0;
  }
}
