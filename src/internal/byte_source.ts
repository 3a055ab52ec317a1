import { ValidationError } from "../errors.ts";
import { throwIfAborted } from "./deadline.ts";
import { pathOf } from "./path_of.ts";
import { asFileError, lookAtFile } from "./regular_file.ts";
import { Semaphore } from "./semaphore.ts";
import { type OpenFile, runtime } from "../runtime/mod.ts";

/** Bytes that can be read from any place; a file, a `Blob` of a browser, or memory. */
export interface ByteSource {
  /** What it is called in errors. */
  readonly name: string;
  /** Bytes that it has. */
  readonly size: number;
  /** Reads just these bytes. */
  read(start: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
  close(): void;
}

/** What can be opened: a path (needs `--allow-read`), a `Blob` or `File`, or the bytes themselves. */
export type ByteOrigin = string | URL | Blob | Uint8Array<ArrayBuffer>;

/**
 * Opens a source.
 *
 * @throws {ValidationError} When it is no regular file.
 */
export async function openSource(
  source: ByteOrigin,
  options: { readonly signal?: AbortSignal | undefined },
): Promise<ByteSource> {
  if (source instanceof Uint8Array) return bytesSource(source.slice());
  if (source instanceof Blob) {
    return blobSource(source, source instanceof File ? source.name : "the blob");
  }
  return await fileSource(source, options.signal);
}

/** Not by a `Blob`: Deno keeps the bytes of each, and of each part, until much later. */
function bytesSource(bytes: Uint8Array<ArrayBuffer>): ByteSource {
  return {
    name: "the bytes",
    size: bytes.length,
    read: (start, length) => Promise.resolve(bytes.slice(start, start + length)),
    close() {},
  };
}

function blobSource(blob: Blob, name: string): ByteSource {
  return {
    name,
    size: blob.size,
    async read(start, length) {
      return new Uint8Array(await blob.slice(start, start + length).arrayBuffer());
    },
    close() {},
  };
}

async function fileSource(
  source: string | URL,
  signal: AbortSignal | undefined,
): Promise<ByteSource> {
  const name = pathOf(source);
  const refuse = (message: string, options?: ErrorOptions) => new ValidationError(message, options);
  const { size } = await lookAtFile(name, { refuse, signal });
  const file = await runtime().open(name).catch((error) => {
    throw asFileError(error, name, { refuse });
  });
  // Reads move one place in the file, so they take turns.
  const turn = new Semaphore(1);
  return {
    name,
    size,
    async read(start, length) {
      using _turn = await turn.acquire();
      try {
        return await readAt(file, { name, start, length, signal });
      } catch (error) {
        throw asFileError(error, name, { refuse });
      }
    },
    close: () => file.close(),
  };
}

async function readAt(
  file: OpenFile,
  { name, start, length, signal }: {
    readonly name: string;
    readonly start: number;
    readonly length: number;
    readonly signal: AbortSignal | undefined;
  },
): Promise<Uint8Array<ArrayBuffer>> {
  throwIfAborted(signal, `read ${name}`);
  const bytes = new Uint8Array(length);
  await file.seek(start, 0);
  for (let filled = 0; filled < length;) {
    const count = await file.read(bytes.subarray(filled));
    if (count === null) {
      throw new ValidationError(
        `${name} became shorter while it was read: open it again when nobody writes to it`,
      );
    }
    filled += count;
  }
  return bytes;
}
