import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { CheckpointError, LimitError, SGLangError, ValidationError } from "../errors.ts";
import { forEachAtOnce } from "../internal/at_once.ts";
import { nearestName } from "../internal/suggest.ts";
import { FilePool, READS_AT_ONCE } from "./file_pool.ts";
import {
  DEFAULT_TENSORS,
  type Header,
  LENGTH_FIELD_BYTES,
  parseHeader,
  parseHeaderLength,
  type TensorPlace,
  tooManyTensors,
} from "./header.ts";
import { type CheckpointFiles, type CheckpointLimits, locateFiles } from "./locate.ts";

/** A tensor of a checkpoint and where its bytes lie. */
export interface CheckpointTensor extends TensorPlace {
  /** Path of the file. */
  readonly file: string;
}

/** Options of a read. */
export interface ReadOptions {
  /** Cancels the read. */
  readonly signal?: AbortSignal | undefined;
}

/** Options of {@linkcode openCheckpoint}. */
export interface OpenOptions extends ReadOptions, CheckpointLimits {}

const NAMES = {
  signal: true,
  maxHeaderBytes: true,
  maxIndexBytes: true,
  maxFiles: true,
  maxTensors: true,
  maxMetadata: true,
} as const satisfies OptionNames<OpenOptions>;

/** An open checkpoint: all headers are read and checked, no tensor is. See {@linkcode openCheckpoint}. */
export interface Checkpoint extends AsyncDisposable {
  /** Path as it was given. */
  readonly path: string;
  /** The tensors by name, file by file and in each in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** The files' `__metadata__`, joined. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Bytes of all tensors together. */
  readonly byteLength: number;
  /**
   * A tensor's bytes in a new array.
   *
   * @throws {ValidationError} For an unknown name.
   */
  read(name: string, options?: ReadOptions): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Fills `target` with a tensor's bytes from `byteOffset` (default 0) on. `target` may be shorter
   * than the rest, so that a large tensor can be read piece by piece; longer is a
   * `ValidationError`.
   */
  readInto(
    name: string,
    target: Uint8Array,
    options?: ReadOptions & { readonly byteOffset?: number | undefined },
  ): Promise<void>;
  /**
   * Looks at every file once more; a `CheckpointError` names one that was written to, replaced or
   * removed since it was opened. What was read before is of one piece only if this resolves.
   */
  confirmUnchanged(options?: ReadOptions): Promise<void>;
}

/**
 * Opens a safetensors checkpoint: a file, a folder, or a sharded checkpoint's
 * `model.safetensors.index.json`. Reads and checks the headers; tensors are read when asked for,
 * several at once if the caller wants, straight into the caller's memory.
 *
 * Needs `--allow-read` for the path.
 *
 * Where something is larger than its limit ({@linkcode CheckpointLimits}) it throws a `LimitError`. A file that changes after it
 * was opened is refused when it is opened again; call `confirmUnchanged()` after the last read,
 * because one may be written to in place meanwhile.
 *
 * @throws {CheckpointError} Names the file and what is wrong with it: damaged or hostile
 *   headers, gaps, overlaps, sizes that do not fit the shape, a file cut short, tensors that the
 *   index names but no file has, pipes and devices.
 *
 * @example
 * ```ts
 * import { openCheckpoint } from "@sglang-rl/sglang-rl/checkpoint";
 *
 * async function totalSizeBytes(folder: string): Promise<number> {
 *   await using checkpoint = await openCheckpoint(folder);
 *   return checkpoint.byteLength;
 * }
 * ```
 */
export async function openCheckpoint(path: string, options: OpenOptions = {}): Promise<Checkpoint> {
  checkOptionNames(options, NAMES, "openCheckpoint()");
  const { files, weightMap } = await locateFiles(path, options);
  const pool = new FilePool();
  try {
    const headers = await readHeaders(pool, { files, weightMap }, options);
    const tensors = joinTensors(headers, weightMap);
    const metadata = Object.assign({}, ...headers.map(({ metadata }) => metadata));
    return new OpenCheckpoint({ path, pool, tensors, metadata });
  } catch (error) {
    pool.close();
    throw error;
  }
}

class OpenCheckpoint implements Checkpoint {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly byteLength: number;
  readonly #pool: FilePool;

  constructor(parts: {
    path: string;
    pool: FilePool;
    tensors: ReadonlyMap<string, CheckpointTensor>;
    metadata: Readonly<Record<string, string>>;
  }) {
    this.path = parts.path;
    this.tensors = parts.tensors;
    this.metadata = parts.metadata;
    this.#pool = parts.pool;
    this.byteLength = [...parts.tensors.values()].reduce(
      (sum, { byteLength }) => sum + byteLength,
      0,
    );
  }

  async read(name: string, options: ReadOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    const target = new Uint8Array(this.#find(name).byteLength);
    await this.readInto(name, target, options);
    return target;
  }

  async readInto(
    name: string,
    target: Uint8Array,
    options: ReadOptions & { readonly byteOffset?: number | undefined } = {},
  ): Promise<void> {
    const tensor = this.#find(name);
    const { byteOffset = 0, signal } = options;
    if (
      !Number.isSafeInteger(byteOffset) || byteOffset < 0 ||
      byteOffset + target.length > tensor.byteLength
    ) {
      throw new ValidationError(
        `Cannot read ${target.length} bytes at ${byteOffset} of tensor "${name}", which has ` +
          `${tensor.byteLength}`,
      );
    }
    await this.#pool.read(tensor.file, target, {
      position: tensor.byteOffset + byteOffset,
      signal,
    });
  }

  async confirmUnchanged({ signal }: ReadOptions = {}): Promise<void> {
    await this.#pool.confirm(signal);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#pool.close();
    return Promise.resolve();
  }

  #find(name: string): CheckpointTensor {
    const tensor = this.tensors.get(name);
    if (tensor !== undefined) return tensor;
    const near = nearestName(name, this.tensors.keys());
    throw new ValidationError(
      `${this.path} has no tensor "${name}"` +
        (near === undefined ? "" : `; did you mean "${near}"?`),
    );
  }
}

/** What counts of the headers of all files, in the order of the files. */
async function readHeaders(
  pool: FilePool,
  { files, weightMap }: CheckpointFiles,
  options: OpenOptions,
): Promise<FileHeader[]> {
  const { signal, maxTensors = DEFAULT_TENSORS } = options;
  const headers: FileHeader[] = [];
  let count = 0;
  await forEachAtOnce(files.entries(), { limit: READS_AT_ONCE, signal }, async (entry, signal) => {
    const [index, file] = entry;
    const { tensors, metadata } = await readHeader(pool, file, {
      ...options,
      signal,
      maxTensors: maxTensors - count,
    });
    count += tensors.length;
    if (count > maxTensors) throw named(file, tooManyTensors(maxTensors));
    // Of a thousand names of one file, only what is meant to be read there is kept.
    const own = weightMap === null
      ? tensors
      : tensors.filter(({ name }) => (weightMap.get(name) ?? file) === file);
    headers[index] = { file, tensors: own, metadata };
  });
  return headers;
}

interface FileHeader extends Header {
  readonly file: string;
}

async function readHeader(
  pool: FilePool,
  file: string,
  { signal, maxHeaderBytes, maxTensors, maxMetadata }: OpenOptions,
): Promise<Header> {
  const { size } = await pool.stat(file, signal);
  try {
    if (size < LENGTH_FIELD_BYTES) {
      throw new CheckpointError(`${size} bytes are too few for a safetensors file`);
    }
    const field = new Uint8Array(LENGTH_FIELD_BYTES);
    await pool.read(file, field, { position: 0, signal });
    const header = new Uint8Array(parseHeaderLength(field, size, maxHeaderBytes));
    await pool.read(file, header, { position: LENGTH_FIELD_BYTES, signal });
    return parseHeader(header, size, maxTensors, maxMetadata);
  } catch (error) {
    if (!(error instanceof SGLangError) || error.message.startsWith(file)) throw error;
    if (error instanceof LimitError) throw named(file, error);
    if (error.code !== "checkpoint") throw error;
    throw new CheckpointError(`${file}: ${error.message}`, { cause: error });
  }
}

function named(file: string, error: LimitError): LimitError {
  const { limit, max } = error;
  return new LimitError(`${file}: ${error.message}`, { limit, max, cause: error });
}

function joinTensors(
  headers: readonly FileHeader[],
  weightMap: ReadonlyMap<string, string> | null,
): Map<string, CheckpointTensor> {
  const tensors = new Map<string, CheckpointTensor>();
  for (const { file, tensors: own } of headers) {
    for (const tensor of own) {
      const other = tensors.get(tensor.name);
      if (other !== undefined) {
        throw new CheckpointError(`tensor "${tensor.name}" is in ${other.file} and in ${file}`);
      }
      tensors.set(tensor.name, { ...tensor, file });
    }
  }
  for (const [name, file] of weightMap ?? []) {
    if (tensors.has(name)) continue;
    throw new CheckpointError(`the index says that tensor "${name}" is in ${file}; it is not`);
  }
  return tensors;
}
