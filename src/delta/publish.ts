import { basename, join } from "node:path";
import { locateFiles } from "../checkpoint/locate.ts";
import { StateError, ValidationError } from "../errors.ts";
import {
  DELTA_SCHEMA,
  type DeltaFile,
  type DeltaManifest,
  MANIFEST,
  versionFolder,
} from "./manifest.ts";
import { DeltaStore } from "./store.ts";
import { copyHashed, openRegular, writeDelta } from "./xor.ts";
import { namingPermission } from "../internal/permission.ts";
import { pathOf } from "../internal/path_of.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Options of {@linkcode publishDelta}. */
export interface PublishOptions {
  /** What the weights are called; never the name of an earlier version. */
  readonly version: string;
  /**
   * Whole copies that stay in the store, the newest ones, at least 1: the next delta is made of the
   * newest, and followers that lack the base take it. Default 2.
   */
  readonly keepWhole?: number | undefined;
  /** Versions whose deltas stay, so that a follower that was away can come after. Default 16. */
  readonly keepDeltas?: number | undefined;
  /** Ends it; followers do not see the version then. */
  readonly signal?: AbortSignal | undefined;
}

const OPTION_NAMES = {
  version: true,
  keepWhole: true,
  keepDeltas: true,
  signal: true,
} as const satisfies OptionNames<PublishOptions>;

/** What was published. */
export interface PublishReport {
  /** What the weights are called. */
  readonly version: string;
  /** Number in the store, from 1. */
  readonly number: number;
  /** Bytes of the whole files. */
  readonly byteLength: number;
  /** Bytes that a follower with the version before reads. */
  readonly deltaBytes: number;
}

/**
 * Puts a checkpoint into a store for followers: the whole files, and of each file that the version
 * before had in the same size what changed. One process writes a store; followers may read it
 * meanwhile.
 *
 * Needs `--allow-read` and `--allow-write` of the store, and `--allow-read` of the checkpoint.
 *
 * @param store Folder of the store; it is made.
 * @param checkpoint Folder of safetensors, as a trainer saved it.
 * @throws {ValidationError} The version is empty or was there before.
 * @throws {CheckpointError} The checkpoint cannot be read.
 */
export async function publishDelta(
  place: string,
  checkpoint: string,
  options: PublishOptions,
): Promise<PublishReport> {
  checkOptionNames(options, OPTION_NAMES, "publishDelta()");
  const store = pathOf(place, "a delta store");
  const { version, keepWhole = 2, keepDeltas = 16, signal } = options;
  if (typeof version !== "string" || version === "") {
    throw new ValidationError("version must be a text that is not empty");
  }
  for (const [name, value] of Object.entries({ keepWhole, keepDeltas })) {
    if (Number.isSafeInteger(value) && value >= 1) continue;
    throw new ValidationError(`${name} must be a whole number from 1 on, got ${value}`);
  }
  const flag = `--allow-read=${store} --allow-write=${store}`;
  await namingPermission(flag, `make ${store}`, () => Deno.mkdir(store, { recursive: true }));
  const before = await new DeltaStore(store).newest(signal);
  if (before?.version === version) {
    throw new StateError(`The newest version of ${store} is called "${version}" already`);
  }
  const number = (before?.number ?? 0) + 1;
  const folder = join(store, versionFolder(number));
  // What a publisher that was killed left behind.
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  await namingPermission(flag, `make ${folder}`, () => Deno.mkdir(folder));
  const { files } = await locateFiles(checkpoint, { signal });
  const published: DeltaFile[] = [];
  for (const file of files) {
    const name = basename(file);
    const target = join(folder, name);
    using input = await openRegular(file, signal);
    const whole = await copyHashed(input.readable, target, signal);
    const old = before?.files.find((one) => one.name === name && one.size === whole.size);
    const delta = old === undefined
      ? null
      : await deltaOf(join(store, versionFolder(before!.number), name), target, whole.size, signal);
    published.push({ name, ...whole, delta });
  }
  const manifest: DeltaManifest = { schema: DELTA_SCHEMA, version, number, files: published };
  await namingPermission(flag, `write to ${store}`, async () => {
    await writeManifest(join(folder, MANIFEST), manifest);
    await writeManifest(join(store, MANIFEST), manifest);
    await removeOld(store, number, { keepWhole, keepDeltas });
  });
  return {
    version,
    number,
    byteLength: published.reduce((sum, { size }) => sum + size, 0),
    deltaBytes: published.reduce((sum, { size, delta }) => sum + (delta?.size ?? size), 0),
  };
}

/** A delta that is not smaller than the file is of no use. */
async function deltaOf(
  base: string,
  next: string,
  size: number,
  signal: AbortSignal | undefined,
): Promise<DeltaFile["delta"]> {
  try {
    await Deno.lstat(base);
  } catch {
    return null;
  }
  const path = `${next}.delta`;
  const diff = await writeDelta(base, next, path, signal);
  if (diff.size < 0.95 * size) {
    return { path: basename(path), size: diff.size, baseSha256: diff.base.sha256 };
  }
  await Deno.remove(path);
  return null;
}

/** A manifest appears whole: followers look at it at any time. */
async function writeManifest(path: string, manifest: DeltaManifest): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  await Deno.writeTextFile(temporary, JSON.stringify(manifest, null, 1));
  await Deno.rename(temporary, path);
}

async function removeOld(
  store: string,
  newest: number,
  keep: { readonly keepWhole: number; readonly keepDeltas: number },
): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(store)) {
    const number = Number(/^v([1-9]\d*)$/.exec(name)?.[1]);
    if (!isDirectory || !(number > 0)) continue;
    const folder = join(store, name);
    if (number <= newest - keep.keepDeltas) await Deno.remove(folder, { recursive: true });
    else if (number <= newest - keep.keepWhole) {
      for await (const file of Deno.readDir(folder)) {
        if (/\.(delta|json)$/.test(file.name)) continue;
        await Deno.remove(join(folder, file.name));
      }
    }
  }
}
