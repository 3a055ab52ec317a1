import { limitsOf } from "../internal/limits.ts";

/** What is taken of a store, which may be somebody else's, and how long is waited for it. */
export interface DeltaLimits {
  /** Longest manifest, in bytes. Default 4 MiB. */
  readonly manifestBytes?: number | undefined;
  /** Most files of a version. Default 2000. */
  readonly files?: number | undefined;
  /** Largest checkpoint, all its files together, in bytes. Default 4 TiB. */
  readonly bytes?: number | undefined;
  /** Most versions between ours and the newest that are read; beyond them files are taken whole. Default 100. */
  readonly versions?: number | undefined;
  /** Longest time for a manifest, and for a file to begin, in milliseconds. Default 30 000. */
  readonly openMs?: number | undefined;
  /** Longest time to bring the files of a version here, in milliseconds. Default an hour. */
  readonly updateMs?: number | undefined;
}

/** The limits with their defaults. */
export type DeltaLimitSettings = { readonly [Name in keyof DeltaLimits]-?: number };

const DEFAULTS: DeltaLimitSettings = {
  manifestBytes: 4 * 2 ** 20,
  files: 2000,
  bytes: 4 * 2 ** 40,
  versions: 100,
  openMs: 30_000,
  updateMs: 3_600_000,
};

/** Checks the limits and fills in the defaults. */
export function deltaLimits(limits: DeltaLimits | undefined): DeltaLimitSettings {
  return limitsOf(limits, DEFAULTS, "a store of deltas");
}
