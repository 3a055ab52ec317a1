/** What a fleet's adapters take. */
import type { SGLangClient } from "../client/client.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import type { OptionNames } from "../internal/option_names.ts";

/** A server that adapters are loaded on. */
export interface AdapterWorker {
  /** Address of the server itself. */
  readonly url: string;
  /** Calls to it, with its keys. */
  readonly client: SGLangClient;
}

/** What a fleet's adapters work with. */
export interface FleetAdaptersOptions {
  /** The servers, read anew for each sync. */
  readonly workers: () => readonly AdapterWorker[];
  /**
   * Told of a server that lacks an adapter that the others have; it must get no requests then.
   * Default: such a sync fails.
   */
  readonly onLacking?: ((url: string, reason: string) => Promise<void>) | undefined;
  /** Told when an adapter may be used from now on. */
  readonly onPublished?: (() => void) | undefined;
  /** Where to report. Default nowhere. */
  readonly logger?: Logger | undefined;
  /** Source of time. */
  readonly clock?: Clock | undefined;
}

/** The names of {@linkcode FleetAdaptersOptions}. */
export const FLEET_ADAPTERS_NAMES = {
  workers: true,
  onLacking: true,
  onPublished: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<FleetAdaptersOptions>;

/** How one adapter is brought. */
export interface BringOptions {
  /** `policy`, or `policy@17`. */
  readonly name: string;
  /** Versions of the policy that may be asked for. */
  readonly keep: number;
  /** Longest load on a server, in milliseconds. */
  readonly loadMs: number;
  /** Longest unload, and wait for room, in milliseconds. */
  readonly unloadMs: number;
  /** Ends the sync. */
  readonly signal?: AbortSignal | undefined;
  /** Told the name before any server may answer with it. */
  readonly onAnnounce?: ((name: string) => void) | undefined;
}

/** The names of {@linkcode BringOptions}. */
export const BRING_NAMES = {
  name: true,
  keep: true,
  loadMs: true,
  unloadMs: true,
  signal: true,
  onAnnounce: true,
} as const satisfies OptionNames<BringOptions>;
