import { LimitError, ValidationError } from "../errors.ts";
import type { ByteSource } from "./byte_source.ts";
import { firstWhere } from "./first_where.ts";

/** How lines are looked for. */
export interface LineSettings {
  readonly maxRows: number;
  readonly maxLineBytes: number;
  /** A line that is too long is an error when it is read, not already when it is found. */
  readonly keepsLongLines?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { bytes: number; totalBytes: number }) => void) | undefined;
}

const READ_AT_ONCE = 1 << 20;
const LINE_FEED = 10;

/** What JSON allows between values; a line of other controls, such as a hole of zeros, is a line. */
function isBlank(byte: number): boolean {
  return byte === 32 || byte === 13 || byte === 9;
}

/** Finds the lines of a file that are not empty. */
export async function findLines(
  source: ByteSource,
  options: LineSettings,
): Promise<LineIndex> {
  const { signal, onProgress } = options;
  const lines = new LineFinder(source.name, options);
  for (let at = 0; at < source.size; at += READ_AT_ONCE) {
    signal?.throwIfAborted();
    const part = await source.read(at, Math.min(READ_AT_ONCE, source.size - at));
    lines.push(part, at);
    onProgress?.({ bytes: at + part.length, totalBytes: source.size });
  }
  return lines.end(source);
}

/** The places of the lines of a file that are not empty: 8 bytes of memory each. */
export class LineIndex {
  readonly #source: ByteSource;
  readonly #starts: Float64Array;
  readonly #gaps: Gaps;
  readonly #long: ReadonlySet<number>;
  readonly #maxLineBytes: number;

  constructor(
    source: ByteSource,
    found: {
      readonly starts: Float64Array;
      readonly gaps: Gaps;
      readonly long: ReadonlySet<number>;
      readonly maxLineBytes: number;
    },
  ) {
    this.#source = source;
    this.#starts = found.starts;
    this.#gaps = found.gaps;
    this.#long = found.long;
    this.#maxLineBytes = found.maxLineBytes;
  }

  /** How many there are. */
  get length(): number {
    return this.#starts.length - 1;
  }

  /** Bytes of some of them, with the empty lines behind each. */
  sizeOf(start: number, end: number): number {
    return this.#starts[end]! - this.#starts[start]!;
  }

  /** What a line is called: the file and its number as an editor counts it, from 1. */
  nameOf(index: number): string {
    return `${this.#source.name}, line ${this.#gaps.lineOf(index)}`;
  }

  /** Reads lines; one that cannot be read is an error and does not cost the others. */
  async read(start: number, end: number): Promise<(string | ValidationError | LimitError)[]> {
    const lines: (string | ValidationError | LimitError)[] = [];
    for (let at = start; at < end;) {
      if (this.#long.has(at)) {
        lines.push(tooLong(this.nameOf(at++), this.#maxLineBytes));
        continue;
      }
      let last = at + 1;
      while (last < end && !this.#long.has(last)) last++;
      lines.push(...await this.#readTogether(at, last));
      at = last;
    }
    return lines;
  }

  async #readTogether(start: number, end: number): Promise<(string | ValidationError)[]> {
    const from = this.#starts[start]!;
    const bytes = await this.#source.read(from, this.sizeOf(start, end));
    const decoder = new TextDecoder("utf-8", { fatal: true });
    return Array.from({ length: end - start }, (_, i) => {
      const at = start + i;
      const line = bytes.subarray(this.#starts[at]! - from, this.#starts[at + 1]! - from);
      try {
        return decoder.decode(line);
      } catch (cause) {
        return new ValidationError(`${this.nameOf(at)} is not UTF-8`, { cause });
      }
    });
  }
}

/** Where empty lines are: what a line's number has more than its index. */
class Gaps {
  readonly #after: number[] = [];
  readonly #lines: number[] = [];
  #total = 0;

  /** An empty line was found before the line of this index. */
  add(index: number): void {
    this.#total++;
    if (this.#after.at(-1) !== index) this.#after.push(index);
    this.#lines[this.#after.length - 1] = this.#total;
  }

  /** Number of a line, from 1. */
  lineOf(index: number): number {
    const behind = firstWhere(this.#after.length, (at) => this.#after[at]! > index);
    return index + 1 + (this.#lines[behind - 1] ?? 0);
  }
}

function tooLong(where: string, max: number): LimitError {
  return new LimitError(`${where} is longer than maxLineBytes, ${max}`, {
    limit: "maxLineBytes",
    max,
  });
}

/** Notes where lines begin; looks at every byte once. */
class LineFinder {
  readonly #name: string;
  readonly #settings: LineSettings;
  readonly #gaps = new Gaps();
  readonly #long = new Set<number>();
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
      for (let i = from; this.#isBlank && i < end; i++) this.#isBlank = isBlank(part[i]!);
      this.#checkLength(at + end);
      if (found >= 0) this.#endLine(at + end, at + end + 1);
      from = end + 1;
    }
  }

  /** All lines; the end of the file is the end of the last one. */
  end(source: ByteSource): LineIndex {
    this.#endLine(source.size, source.size);
    return new LineIndex(source, {
      starts: this.#starts.slice(0, this.#count + 1).fill(source.size, this.#count),
      gaps: this.#gaps,
      long: this.#long,
      maxLineBytes: this.#settings.maxLineBytes,
    });
  }

  #checkLength(end: number): void {
    const { maxLineBytes: max, keepsLongLines } = this.#settings;
    if (keepsLongLines || end - this.#lineStart <= max) return;
    throw tooLong(`${this.#name}, line ${this.#gaps.lineOf(this.#count)}`, max);
  }

  #endLine(end: number, next: number): void {
    const start = this.#lineStart;
    const wasBlank = this.#isBlank;
    this.#lineStart = next;
    this.#isBlank = true;
    if (wasBlank) return this.#gaps.add(this.#count);
    const { maxRows: max, maxLineBytes } = this.#settings;
    if (end - start > maxLineBytes) this.#long.add(this.#count);
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
