import { LimitError, ValidationError } from "../errors.ts";
import type { ByteSource } from "./byte_source.ts";

/** How lines are looked for. */
export interface LineSettings {
  readonly maxRows: number;
  readonly maxLineBytes: number;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { bytes: number; totalBytes: number }) => void) | undefined;
}

const READ_AT_ONCE = 1 << 20;
const LINE_FEED = 10;
const SPACE = 32;

/** Where each line begins that is not empty, and where the last one ends. */
export async function findLines(
  source: ByteSource,
  options: LineSettings,
): Promise<Float64Array> {
  const { signal, onProgress } = options;
  const lines = new LineIndex(source.name, options);
  for (let at = 0; at < source.size; at += READ_AT_ONCE) {
    signal?.throwIfAborted();
    const part = await source.read(at, Math.min(READ_AT_ONCE, source.size - at));
    lines.push(part, at);
    onProgress?.({ bytes: at + part.length, totalBytes: source.size });
  }
  return lines.end(source.size);
}

/** Notes where lines begin; looks at every byte once. */
class LineIndex {
  readonly #name: string;
  readonly #settings: LineSettings;
  #starts = new Float64Array(1024);
  #count = 0;
  #lineStart = 0;
  #isBlank = true;

  constructor(name: string, settings: LineSettings) {
    this.#name = name;
    this.#settings = settings;
  }

  /** Takes the bytes that stand at `at` in the file. */
  push(part: Uint8Array, at: number): void {
    for (let from = 0; from < part.length;) {
      const found = part.indexOf(LINE_FEED, from);
      const end = found < 0 ? part.length : found;
      // Mostly the first byte tells.
      for (let i = from; this.#isBlank && i < end; i++) this.#isBlank = part[i]! <= SPACE;
      this.#checkLength(at + end);
      if (found >= 0) this.#endLine(at + end + 1);
      from = end + 1;
    }
  }

  /** The starts, and the end of the file. */
  end(size: number): Float64Array {
    this.#endLine(size);
    return this.#starts.slice(0, this.#count + 1).fill(size, this.#count);
  }

  #checkLength(end: number): void {
    const { maxLineBytes: max } = this.#settings;
    if (end - this.#lineStart <= max) return;
    throw new LimitError(`${this.#name}: row ${this.#count} is longer than maxLineBytes, ${max}`, {
      limit: "maxLineBytes",
      max,
    });
  }

  #endLine(next: number): void {
    const start = this.#lineStart;
    const isBlank = this.#isBlank;
    this.#lineStart = next;
    this.#isBlank = true;
    if (isBlank) return;
    const { maxRows: max } = this.#settings;
    if (this.#count === max) {
      throw new LimitError(`${this.#name} has more rows than maxRows, ${max}`, {
        limit: "maxRows",
        max,
      });
    }
    // One place more is kept for the end of the file.
    if (this.#count + 1 === this.#starts.length) {
      const larger = new Float64Array(2 * this.#starts.length);
      larger.set(this.#starts);
      this.#starts = larger;
    }
    this.#starts[this.#count++] = start;
  }
}

/** Empty lines between two rows belong to the row before them. */
export async function readLines(
  source: ByteSource,
  starts: Float64Array,
  start: number,
  end: number,
): Promise<string[]> {
  if (start === end) return [];
  const from = starts[start]!;
  const bytes = await source.read(from, starts[end]! - from);
  const decoder = new TextDecoder("utf-8", { fatal: true });
  return Array.from({ length: end - start }, (_, i) => {
    const line = bytes.subarray(starts[start + i]! - from, starts[start + i + 1]! - from);
    try {
      return decoder.decode(line);
    } catch (cause) {
      throw new ValidationError(`${source.name}, row ${start + i} is not UTF-8`, { cause });
    }
  });
}
