/**
 * A file as what differs from another of the same size: of each part of 4 MiB the bytes XORed,
 * compressed by zstd. Where elements are the same the XOR is zero, so it shrinks to what changed; it
 * knows no element types and loses nothing.
 *
 * A delta file is a word of 8 bytes, then for each part four bytes of length and the compressed
 * bytes; length 0: nothing changed; with the highest bit: the bytes are not compressed.
 */
import { createHash, type Hash } from "node:crypto";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import { promisify } from "node:util";
import { setImmediate } from "node:timers/promises";
import { CheckpointError } from "../errors.ts";
import { asPermissionError } from "../internal/permission.ts";
import { asFileError, lookAtFile } from "../internal/regular_file.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { writeAll as writeAllBytes } from "../internal/write_all.ts";

const MAGIC = new TextEncoder().encode("SGRLXOR1");
const PART_BYTES = 4 * 1024 * 1024;
const IS_PLAIN = 0x80000000;
/** What zstd may add to bytes that do not compress; longer parts are damage. */
const SLACK_BYTES = 64 * 1024;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const FASTEST = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** A file that was written or read, and its checksum. */
export interface Hashed {
  readonly size: number;
  readonly sha256: string;
}

/** What a diff found. */
export interface Diff {
  readonly base: Hashed;
  readonly next: Hashed;
  /** Bytes of the delta file. */
  readonly size: number;
}

/** Writes the delta that makes `next` of `base`; both have the same size. */
export async function writeDelta(
  base: string,
  next: string,
  delta: string,
  signal?: AbortSignal,
): Promise<Diff> {
  using from = await openRegular(base, signal);
  using to = await openRegular(next, signal);
  using out = await openNew(delta);
  const hashes = [createHash("sha256"), createHash("sha256")] as const;
  const parts = [new Uint8Array(PART_BYTES), new Uint8Array(PART_BYTES)] as const;
  await writeAll(out, MAGIC);
  let size = MAGIC.length;
  let total = 0;
  for (;;) {
    throwIfAborted(signal, "diff");
    const [a, b] = await Promise.all([fill(from, parts[0]), fill(to, parts[1])]);
    if (a !== b) throw new CheckpointError(`${base} and ${next} have not the same size`);
    if (a === 0) break;
    total += a;
    const [old, fresh] = [parts[0].subarray(0, a), parts[1].subarray(0, a)];
    hashes[0].update(old);
    hashes[1].update(fresh);
    const isChanged = xorInto(old, fresh);
    const packed = isChanged ? await pack(old) : undefined;
    const length = new Uint8Array(4);
    new DataView(length.buffer).setUint32(0, packed?.word ?? 0, true);
    await writeAll(out, length);
    if (packed !== undefined) await writeAll(out, packed.bytes);
    size += 4 + (packed?.bytes.length ?? 0);
  }
  const done = (hash: Hash): Hashed => ({ size: total, sha256: hash.digest("hex") });
  return { base: done(hashes[0]), next: done(hashes[1]), size };
}

/**
 * Writes what a delta makes of `base`, part by part, without the whole in memory.
 *
 * @returns Size and checksum of what was read and of what was written.
 * @throws {CheckpointError} The delta is damaged or for a file of another size.
 */
export async function applyDelta(
  base: string,
  delta: AsyncIterable<Uint8Array>,
  target: string,
  signal?: AbortSignal,
): Promise<{ readonly base: Hashed; readonly next: Hashed }> {
  await using input = new Input(delta);
  using from = await openRegular(base, signal);
  using out = await openNew(target);
  const hashes = [createHash("sha256"), createHash("sha256")] as const;
  const part = new Uint8Array(PART_BYTES);
  const magic = await input.take(MAGIC.length);
  if (!magic.every((byte, i) => byte === MAGIC[i])) throw damaged("is no delta");
  let total = 0;
  for (;;) {
    throwIfAborted(signal, "patch");
    const count = await fill(from, part);
    if (count === 0) break;
    total += count;
    const bytes = part.subarray(0, count);
    hashes[0].update(bytes);
    const word = new DataView((await input.take(4)).slice().buffer).getUint32(0, true);
    if (word !== 0) xorInto(bytes, await unpack(input, word, count));
    hashes[1].update(bytes);
    await writeAll(out, bytes);
  }
  if (!await input.isAtEnd()) throw damaged("is for a longer file");
  await out.syncData();
  const done = (hash: Hash): Hashed => ({ size: total, sha256: hash.digest("hex") });
  return { base: done(hashes[0]), next: done(hashes[1]) };
}

/**
 * Copies a file from a stream and tells its checksum. The stream is ended in any case.
 *
 * @param maxBytes What the file may have: a stream that goes on must not fill the disk.
 */
export async function copyHashed(
  source: AsyncIterable<Uint8Array>,
  target: string,
  signal?: AbortSignal,
  maxBytes = Infinity,
): Promise<Hashed> {
  await using input = new Input(source);
  using out = await openNew(target);
  const hash = createHash("sha256");
  let size = 0;
  for (let bytes = await input.piece(); bytes !== undefined; bytes = await input.piece()) {
    throwIfAborted(signal, "copy");
    if (size + bytes.length > maxBytes) {
      throw new CheckpointError(
        `${target} would have more than the ${maxBytes} bytes of its manifest`,
      );
    }
    hash.update(bytes);
    await writeAll(out, bytes);
    size += bytes.length;
  }
  await out.syncData();
  return { size, sha256: hash.digest("hex") };
}

/** Opens a file to read it: a pipe, which would wait for its other end, is refused. */
export async function openRegular(path: string, signal?: AbortSignal): Promise<Deno.FsFile> {
  const refuse = (message: string, options?: ErrorOptions) => new CheckpointError(message, options);
  await lookAtFile(path, { refuse, signal });
  try {
    return await Deno.open(path);
  } catch (error) {
    throw asFileError(error, path, { refuse });
  }
}

async function openNew(path: string): Promise<Deno.FsFile> {
  try {
    return await Deno.open(path, { write: true, create: true, truncate: true });
  } catch (error) {
    throw writeError(error, path);
  }
}

/** An error of ours for what the system says when a file is written, moved or removed. */
function writeError(error: unknown, path: string): unknown {
  return asPermissionError(error, `--allow-write=${path}`, `write ${path}`);
}

async function pack(bytes: Uint8Array): Promise<{ word: number; bytes: Uint8Array }> {
  const packed = await compress(bytes, FASTEST);
  if (packed.length < bytes.length) return { word: packed.length, bytes: packed };
  return { word: (bytes.length | IS_PLAIN) >>> 0, bytes };
}

async function unpack(input: Input, word: number, count: number): Promise<Uint8Array> {
  const isPlain = word >= IS_PLAIN;
  const length = isPlain ? word - IS_PLAIN : word;
  if (length > count + SLACK_BYTES) throw damaged(`has a part of ${length} bytes for ${count}`);
  const bytes = await input.take(length);
  let part: Uint8Array;
  try {
    part = isPlain ? bytes : await decompress(bytes, { maxOutputLength: count });
  } catch (cause) {
    throw damaged("has a part that cannot be decompressed", { cause });
  }
  if (part.length !== count) throw damaged(`has a part for ${part.length} bytes, not ${count}`);
  return part;
}

/** `a ^= b`; tells whether they differed. Eight bytes at a time where they lie so. */
function xorInto(a: Uint8Array, b: Uint8Array): boolean {
  let found = 0;
  let at = 0;
  if (a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0) {
    const words = a.length >> 2;
    const left = new Uint32Array(a.buffer, a.byteOffset, words);
    const right = new Uint32Array(b.buffer, b.byteOffset, words);
    for (let i = 0; i < words; i++) {
      const difference = right[i]!;
      const mixed = left[i]! ^ difference;
      found |= mixed;
      left[i] = mixed;
    }
    at = words * 4;
  }
  for (; at < a.length; at++) {
    const mixed = a[at]! ^ b[at]!;
    found |= mixed;
    a[at] = mixed;
  }
  return found !== 0;
}

async function fill(file: Deno.FsFile, into: Uint8Array): Promise<number> {
  let at = 0;
  while (at < into.length) {
    const read = await file.read(into.subarray(at));
    if (read === null) break;
    at += read;
  }
  await setImmediate();
  return at;
}

/** Takes just so many bytes of a stream. */
class Input implements AsyncDisposable {
  readonly #source: AsyncIterator<Uint8Array>;
  #held: Uint8Array = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async take(count: number): Promise<Uint8Array> {
    if (this.#held.length >= count) return this.#cut(count);
    const whole = new Uint8Array(count);
    let at = 0;
    while (at < count) {
      if (this.#held.length === 0 && !await this.#more()) throw damaged("ends too early");
      const piece = this.#cut(Math.min(count - at, this.#held.length));
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  /** The next bytes, as many as come; `undefined` at the end. */
  async piece(): Promise<Uint8Array | undefined> {
    if (this.#held.length === 0 && !await this.#more()) return undefined;
    return this.#cut(this.#held.length);
  }

  async isAtEnd(): Promise<boolean> {
    while (this.#held.length === 0) if (!await this.#more()) return true;
    return false;
  }

  /** Nobody reads on: a file or connection behind it is closed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#source.return?.();
  }

  #cut(count: number): Uint8Array {
    const piece = this.#held.subarray(0, count);
    this.#held = this.#held.subarray(count);
    return piece;
  }

  async #more(): Promise<boolean> {
    const { value, done } = await this.#source.next();
    if (done) return false;
    this.#held = value;
    return true;
  }
}

function damaged(what: string, options?: ErrorOptions): CheckpointError {
  return new CheckpointError(`The delta ${what}`, options);
}

/** A disk that is full is told in an error of ours. */
async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  try {
    await writeAllBytes(file, bytes);
  } catch (error) {
    throw asPermissionError(error, "--allow-write", "write a file of a checkpoint");
  }
}
