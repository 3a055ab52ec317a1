/** Where the emulated versions differ. Source: the measured behaviour of SGLang 0.5.16 and 0.5.23. */

/** Versions that the embedded server can emulate. */
export type EmulatedVersion = "0.5.16" | "0.5.23";

/** Behaviour of one version. */
export interface Emulated {
  readonly version: EmulatedVersion;
  /** Sampling parameters are checked strictly, with 400 instead of 500. */
  readonly strict: boolean;
  /** `meta_info.weight_versions`. */
  readonly tellsSpans: boolean;
  /** Weight updates need `/begin_weight_update`. */
  readonly needsSession: boolean;
  /** An update with `flush_cache` on a busy server kills it. */
  readonly diesOfBusyFlush: boolean;
  /** `/get_load` exists. */
  readonly hasGetLoad: boolean;
  /** Retracted requests do not stand in the way of a flush. */
  readonly flushesWhenRetracted: boolean;
  /** `/weights_checker` has checksums on a CPU. */
  readonly hasChecksums: boolean;
  /** The matrices of an adapter come as one payload for each rank, instead of one for all. */
  readonly adapterRanks: boolean;
}

/** The behaviour of each version. */
export const emulatedVersions: Readonly<Record<EmulatedVersion, Emulated>> = {
  "0.5.16": {
    version: "0.5.16",
    strict: false,
    tellsSpans: false,
    needsSession: false,
    diesOfBusyFlush: true,
    hasGetLoad: true,
    flushesWhenRetracted: false,
    hasChecksums: false,
    adapterRanks: false,
  },
  "0.5.23": {
    version: "0.5.23",
    strict: true,
    tellsSpans: true,
    needsSession: true,
    diesOfBusyFlush: false,
    hasGetLoad: false,
    flushesWhenRetracted: true,
    hasChecksums: true,
    adapterRanks: true,
  },
};
