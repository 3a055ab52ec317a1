import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { dirname } from "node:path";
import { ValidationError } from "../errors.ts";
import { throwIfAborted } from "../internal/deadline.ts";
import { pathOf } from "../internal/path_of.ts";
import { asPermissionError } from "../internal/permission.ts";
import { writeAll } from "../internal/write_all.ts";
import { type DType, isDType, type TensorInfo, tensorSizeBytes } from "./dtype.ts";
import { encodeHeader } from "./header.ts";
import { runtime } from "../runtime/mod.ts";

/**
 * Element types in the order in which safetensors lays tensors out; larger elements come first.
 *
 * Source: safetensors `tensor.rs` (`Dtype`, of which the later one goes first, and `prepare`).
 */
const layoutOrder: readonly DType[] = [
  "int64",
  "float64",
  "float32",
  "int32",
  "bfloat16",
  "float16",
  "int16",
  "float8_e4m3fn",
  "float8_e5m2",
  "int8",
  "uint8",
  "bool",
];

/** A tensor to write. */
export interface TensorToWrite extends TensorInfo {
  /**
   * The bytes, C-contiguous and little-endian: an array of any element type, or a function that
   * gives them in pieces when their turn comes, so that they need not all be in memory.
   */
  readonly data: ArrayBufferView | (() => AsyncIterable<Uint8Array> | Iterable<Uint8Array>);
}

/** Options of {@linkcode writeSafetensors}. */
export interface WriteOptions {
  /** The `__metadata__` entry. Default `{ format: "pt" }`, which Hugging Face's loaders expect. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Cancels the write; nothing is left behind. */
  readonly signal?: AbortSignal | undefined;
}

const NAMES = {
  metadata: true,
  signal: true,
} as const satisfies OptionNames<WriteOptions>;

/**
 * Writes a safetensors file. It appears under `path` whole or not at all: the bytes go to a
 * temporary file in the same folder, reach the disk, and are renamed. Tensors are laid out as
 * Python's safetensors does it, by element type and then by name, so every tensor is aligned.
 *
 * Needs `--allow-write` and `--allow-read` for the folder.
 *
 * @throws {ValidationError} For a name that comes twice or data whose size does not fit the shape.
 *
 * @example
 * ```ts
 * import { writeSafetensors } from "@sglang-rl/sglang-rl/checkpoint";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await writeSafetensors(path, [
 *   { name: "w", dtype: "float32", shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) },
 * ]);
 * ```
 */
export async function writeSafetensors(
  place: string,
  tensors: readonly TensorToWrite[],
  options: WriteOptions = {},
): Promise<void> {
  checkOptionNames(options, NAMES, "writeSafetensors()");
  const path = pathOf(place, "a safetensors file");
  const { metadata = { format: "pt" }, signal } = options;
  throwIfAborted(signal, `write ${path}`);
  checkTensors(tensors);
  const ordered = inOrder(tensors);
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    await writeFile(temporary, { header: encodeHeader(ordered, metadata), ordered, signal });
    await runtime().rename(temporary, path);
  } catch (error) {
    await runtime().remove(temporary).catch(() => {});
    throw namingFlag(error, path);
  }
}

/** A safetensors file that is nowhere: its size, and its bytes when their turn comes. */
export interface SafetensorsFile {
  /** Bytes in all. */
  readonly byteLength: number;
  /** The bytes in pieces, made anew for each call; a piece is valid until the next. */
  pieces(): Generator<Uint8Array, void, void>;
}

/** The file that {@linkcode writeSafetensors} writes, of tensors whose bytes need no waiting. */
export function safetensorsFile(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): SafetensorsFile {
  checkTensors(tensors);
  const ordered = inOrder(tensors);
  const header = encodeHeader(ordered, metadata);
  const bytes = ordered.reduce((sum, tensor) => sum + tensorSizeBytes(tensor), 0);
  return {
    byteLength: header.length + bytes,
    *pieces() {
      yield header;
      for (const tensor of ordered) {
        const pieces = piecesOf(tensor);
        if (!(Symbol.iterator in pieces)) {
          throw new ValidationError(`Tensor "${tensor.name}" gives its bytes only to who waits`);
        }
        yield* pieces;
      }
    },
  };
}

function inOrder(tensors: readonly TensorToWrite[]): TensorToWrite[] {
  return [...tensors].sort((a, b) =>
    layoutOrder.indexOf(a.dtype) - layoutOrder.indexOf(b.dtype) || compareText(a.name, b.name)
  );
}

/** The temporary file lies in the folder, and a rename takes the permission to read it, too. */
function namingFlag(error: unknown, path: string): unknown {
  const isRead = error instanceof Error && /read access/.test(error.message);
  const flag = `--allow-${isRead ? "read" : "write"}=${dirname(path)}`;
  return asPermissionError(error, flag, `write ${path}`);
}

async function writeFile(
  path: string,
  content: {
    header: Uint8Array;
    ordered: readonly TensorToWrite[];
    signal: AbortSignal | undefined;
  },
): Promise<void> {
  using file = await runtime().open(path, { write: true, createNew: true });
  await writeAll(file, content.header);
  for (const tensor of content.ordered) {
    const expected = tensorSizeBytes(tensor);
    let written = 0;
    for await (const piece of piecesOf(tensor)) {
      throwIfAborted(content.signal, `write ${path}`);
      written += piece.length;
      // Checked before the write: a source that never ends must not fill the disk.
      if (written > expected) throw wrongSize(tensor, `more than ${expected}`);
      await writeAll(file, piece);
    }
    if (written !== expected) throw wrongSize(tensor, String(written));
  }
  await file.sync();
}

function piecesOf(tensor: TensorToWrite): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  return typeof tensor.data === "function" ? tensor.data() : [bytesOf(tensor.data)];
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function checkTensors(tensors: readonly TensorToWrite[]): void {
  const names = new Set<string>();
  for (const tensor of tensors) {
    const { name, data, dtype } = tensor;
    if (names.has(name)) throw new ValidationError(`Tensor "${name}" is given twice`);
    if (name === "__metadata__") throw new ValidationError(`A tensor cannot be called "${name}"`);
    if (!isDType(dtype)) {
      throw new ValidationError(`Tensor "${name}" has the unknown element type "${dtype}"`);
    }
    names.add(name);
    const expected = tensorSizeBytes(tensor);
    if (typeof data !== "function" && data.byteLength !== expected) {
      throw wrongSize(tensor, String(data.byteLength));
    }
  }
}

function wrongSize(tensor: TensorToWrite, given: string): ValidationError {
  return new ValidationError(
    `Tensor "${tensor.name}": [${tensor.shape.join(", ")}] of ${tensor.dtype} takes ` +
      `${tensorSizeBytes(tensor)} bytes, but its data has ${given}`,
  );
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
