import { openCheckpoint } from "../checkpoint/mod.ts";
import { tensorSizeBytes } from "../checkpoint/dtype.ts";
import { parseStrictJson } from "../checkpoint/json.ts";
import { CheckpointError, LimitError, UnsupportedError, ValidationError } from "../errors.ts";
import { asPermissionError } from "../internal/permission.ts";
import { pathOf } from "../internal/path_of.ts";
import { readRegularFile } from "../internal/regular_file.ts";
import { withoutTrailingSlashes } from "../internal/trailing_slashes.ts";
import type { TensorBytes } from "../weights/ipc/by_value.ts";
import { type ModelInput, toSource } from "../weights/source/input.ts";
import { firstOnDevice } from "../weights/source/source.ts";
import { findNonFinite } from "../weights/sync/finite.ts";
import { isServerName, type Matrices, pairMatrices } from "./matrices.ts";
import { type AdapterSettings, type PeftConfig, readPeftConfig } from "./peft_config.ts";
import { isSystemError, runtime } from "../runtime/mod.ts";

/** An adapter in memory, as a trainer has it. */
export interface AdapterTensors {
  /** What PEFT writes as `adapter_config.json`. */
  readonly config: PeftConfig;
  /**
   * The matrices by PEFT's names (`…q_proj.lora_A.weight`, also `…lora_A.default.weight`): a state
   * dict or any source of weights.
   */
  readonly tensors: ModelInput;
}

/** What an adapter can be given as: PEFT's folder, or configuration and tensors. */
export type AdapterInput = string | URL | AdapterTensors;

/** An adapter that was read and is of one piece. */
export interface ReadAdapter {
  readonly settings: AdapterSettings;
  readonly matrices: Matrices;
  /** Bytes of all matrices. */
  readonly byteLength: number;
  /** Folder whose files a server can read by itself and computes the same from. */
  readonly folder: string | undefined;
  /** What it is, for messages. */
  readonly label: string;
}

/** PEFT's configuration in the folder of an adapter. */
export const CONFIG_FILE = "adapter_config.json";
/** Holds the matrices. */
export const TENSOR_FILE = "adapter_model.safetensors";
const MAX_CONFIG_BYTES = 1024 * 1024;

/**
 * Reads an adapter whole. Of a folder `adapter_config.json` and `adapter_model.safetensors` are read,
 * which needs `--allow-read` of it.
 *
 * @throws {CheckpointError} The folder lacks a file, or one changed while it was read.
 * @throws {ValidationError} A matrix is missing, has a wrong rank, or holds NaN or infinity.
 * @throws {LimitError} It is larger than `maxBytes`.
 */
export async function readAdapter(
  input: AdapterInput,
  options: { readonly maxBytes: number; readonly signal?: AbortSignal | undefined },
): Promise<ReadAdapter> {
  const isFolder = typeof input === "string" || input instanceof URL;
  if (!isFolder && (typeof input?.tensors !== "object" || input.tensors === null)) {
    throw new ValidationError("An adapter is a PEFT folder, or { config, tensors }");
  }
  const { config, tensors, label } = isFolder
    ? await readFolder(folderOf(input), options)
    : { ...await readTensors(input, options), label: "an adapter in memory" };
  const settings = readPeftConfig(config);
  const matrices = pairMatrices(tensors, settings.rank);
  for (const { name, dtype, bytes } of tensors) {
    const index = await findNonFinite(bytes, { dtype, signal: options.signal });
    if (index < 0) continue;
    throw new ValidationError(
      `"${name}" of the adapter has NaN or infinity at index ${index}; nothing was sent`,
    );
  }
  const isPlain = isFolder && settings.isPlain && tensors.every(({ name }) => isServerName(name));
  return {
    settings,
    matrices,
    byteLength: tensors.reduce((total, { bytes }) => total + bytes.byteLength, 0),
    folder: isPlain ? folderOf(input) : undefined,
    label,
  };
}

interface Read {
  readonly config: PeftConfig;
  readonly tensors: readonly TensorBytes[];
  readonly label: string;
}

async function readFolder(
  folder: string,
  options: { readonly maxBytes: number; readonly signal?: AbortSignal | undefined },
): Promise<Read> {
  const { signal, maxBytes } = options;
  const configPath = `${folder}/${CONFIG_FILE}`;
  const config = parseStrictJson(
    await readRegularFile(configPath, {
      refuse: (message, options) =>
        new CheckpointError(`${message}. A PEFT folder has it`, options),
      limit: CONFIG_FILE,
      maxBytes: MAX_CONFIG_BYTES,
      signal,
    }),
    configPath,
  ) as unknown as PeftConfig;
  try {
    await runtime().lstat(`${folder}/${TENSOR_FILE}`);
  } catch (error) {
    if (!isSystemError(error, "NotFound")) {
      throw asPermissionError(error, `--allow-read=${folder}`, "read");
    }
    throw new CheckpointError(
      `${folder} has no ${TENSOR_FILE}: save the adapter with safe_serialization=True`,
      { cause: error },
    );
  }
  await using checkpoint = await openCheckpoint(`${folder}/${TENSOR_FILE}`, { signal });
  refuseLarge(checkpoint.byteLength, maxBytes);
  const tensors: TensorBytes[] = [];
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    tensors.push({ name, dtype, shape, bytes: await checkpoint.read(name, { signal }) });
  }
  await checkpoint.confirmUnchanged({ signal });
  return { config, tensors, label: folder };
}

async function readTensors(
  { config, tensors: input }: AdapterTensors,
  options: { readonly maxBytes: number; readonly signal?: AbortSignal | undefined },
): Promise<Omit<Read, "label">> {
  const { signal, maxBytes } = options;
  await using open = await toSource(input, "state_dict").open({ signal });
  const onDevice = firstOnDevice(open);
  if (onDevice !== undefined) {
    throw new UnsupportedError(
      `"${onDevice.name}" lies in device memory: copy an adapter to this process's memory first`,
    );
  }
  const tensors: TensorBytes[] = [];
  let total = 0;
  const never = new AbortController().signal;
  for (const [index, info] of open.tensors.entries()) {
    const { name, dtype, shape } = info;
    const view = open.view(index);
    // Kept for servers that join later, so the trainer's memory must not be shared.
    const bytes = view?.slice() ?? new Uint8Array(tensorSizeBytes(info));
    if (view === undefined) await open.read(index, bytes, { signal: signal ?? never });
    total += bytes.byteLength;
    refuseLarge(total, maxBytes);
    tensors.push({ name, dtype, shape, bytes });
  }
  await open.confirm?.({ signal: signal ?? never });
  return { config, tensors };
}

function refuseLarge(byteLength: number, max: number): void {
  if (byteLength <= max) return;
  throw new LimitError(
    `The adapter has ${byteLength} bytes or more, and maxBytes is ${max}`,
    { limit: "maxBytes", max },
  );
}

function folderOf(place: string | URL): string {
  return withoutTrailingSlashes(pathOf(place, "an adapter"));
}
