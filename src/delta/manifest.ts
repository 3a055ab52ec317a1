import { parseStrictJson } from "../checkpoint/json.ts";
import { CheckpointError } from "../errors.ts";
import { isCount, isRecord } from "../internal/json.ts";
import { overLimit } from "../internal/limits.ts";
import { deltaLimits, type DeltaLimitSettings } from "./limits.ts";

/** Name and version of the form of a delta store. */
export const DELTA_SCHEMA = "sglang-rl.delta/1";

/** One file of a version of a checkpoint. */
export interface DeltaFile {
  /** Its name in the checkpoint's folder. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** SHA-256 of its bytes, in hex. */
  readonly sha256: string;
  /** How to make it of the file of the version before; `null`: only the whole file will do. */
  readonly delta: {
    /** Name of the delta file in the version's folder. */
    readonly path: string;
    /** Its bytes. */
    readonly size: number;
    /** SHA-256 of the file that it is for, in hex. */
    readonly baseSha256: string;
  } | null;
}

/** One version of a checkpoint in a store. */
export interface DeltaManifest {
  /** {@linkcode DELTA_SCHEMA}. */
  readonly schema: typeof DELTA_SCHEMA;
  /** What its weights are called. */
  readonly version: string;
  /** Number of the version in the store, from 1. */
  readonly number: number;
  /** The files. */
  readonly files: readonly DeltaFile[];
}

/** Where a version lies in a store. */
export function versionFolder(number: number): string {
  return `v${number}`;
}

/** Name of the manifest in a version's folder, and of the newest one in the store. */
export const MANIFEST = "manifest.json";

const NAME = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/;
/** Nothing else of a model folder is a store's to replace. */
const WEIGHTS = ".safetensors";
const SHA = /^[0-9a-f]{64}$/;

/**
 * Reads a manifest; names that leave their folder, come twice or are no safetensors are refused.
 *
 * @throws {CheckpointError} It is damaged.
 * @throws {LimitError} It has more files or bytes than `limits` allow.
 */
export function parseManifest(
  bytes: Uint8Array,
  what: string,
  limits: DeltaLimitSettings = deltaLimits(undefined),
): DeltaManifest {
  const value = parseStrictJson(bytes, what);
  const wrong = (field: string) => new CheckpointError(`${what}: ${field} is not as it should be`);
  const { schema, version, number, files } = value;
  if (schema !== DELTA_SCHEMA) throw wrong(`schema ${JSON.stringify(schema)}`);
  if (typeof version !== "string" || version === "") throw wrong("version");
  if (!Number.isSafeInteger(number) || Number(number) < 1) throw wrong("number");
  if (!Array.isArray(files) || files.length === 0) throw wrong("files");
  if (files.length > limits.files) {
    throw overLimit(`${what} has ${files.length} files`, "files", limits.files);
  }
  const names = new Set<string>();
  let total = 0;
  return {
    schema,
    version,
    number: Number(number),
    files: files.map((file: unknown, i) => {
      const at = `files[${i}]`;
      if (!isRecord(file)) throw wrong(at);
      const { name, size, sha256, delta } = file;
      if (!isName(name) || !isCount(size) || !isSha(sha256)) throw wrong(at);
      if (!name.endsWith(WEIGHTS) || names.has(name)) throw wrong(`${at}.name`);
      names.add(name);
      total += size;
      if (total > limits.bytes) {
        throw overLimit(`${what} has ${total} bytes or more`, "bytes", limits.bytes);
      }
      if (delta === null) return { name, size, sha256, delta };
      if (
        !isRecord(delta) || !isName(delta.path) || !isCount(delta.size) || !isSha(delta.baseSha256)
      ) throw wrong(`${at}.delta`);
      const { path, size: deltaSize, baseSha256 } = delta;
      return { name, size, sha256, delta: { path, size: deltaSize, baseSha256 } };
    }),
  };
}

function isName(value: unknown): value is string {
  return typeof value === "string" && NAME.test(value);
}

function isSha(value: unknown): value is string {
  return typeof value === "string" && SHA.test(value);
}
