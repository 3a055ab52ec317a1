import { checkOptionNames, type OptionNames } from "../../src/internal/option_names.ts";
import { ValidationError } from "../../src/errors.ts";
import type { Logger } from "../../src/internal/logger.ts";
import type { LibraryOptions } from "../library.ts";
import type { RendezvousStore } from "./store.ts";

/** What an {@linkcode NcclGroup} is opened with. */
export interface NcclGroupOptions {
  /** The store that the servers connect to. */
  readonly store: RendezvousStore;
  /** What is closed after the group, such as its store. Default nothing. */
  readonly closesToo?: AsyncDisposable | undefined;
  /** 1 + the servers' ranks. */
  readonly worldSize: number;
  /** Name of the group, as the servers know it. */
  readonly groupName: string;
  /** Address that the servers connect to. Default: where the store listens. */
  readonly masterAddress?: string | undefined;
  /** Index of our device, among those that `CUDA_VISIBLE_DEVICES` leaves. Default 0. */
  readonly device?: number | undefined;
  /** Where the libraries are. */
  readonly libraries?: LibraryOptions | undefined;
  /** NCCL's version in the servers, such as `"2.28.9"`; another one here is an error. */
  readonly expectedNcclVersion?: string | undefined;
  /** Longest time of each phase in milliseconds. Default 120 s. */
  readonly timeoutMs?: number | undefined;
  /** Cancels the opening. */
  readonly signal?: AbortSignal | undefined;
  /** Hears what happens. */
  readonly logger?: Logger | undefined;
}

const NAMES = {
  store: true,
  closesToo: true,
  worldSize: true,
  groupName: true,
  masterAddress: true,
  device: true,
  libraries: true,
  expectedNcclVersion: true,
  timeoutMs: true,
  signal: true,
  logger: true,
} as const satisfies OptionNames<NcclGroupOptions>;

/**
 * Checks what is given.
 *
 * @throws {ValidationError} An option is wrong.
 */
export function checkGroupOptions(options: NcclGroupOptions): void {
  checkOptionNames(options, NAMES, "an NCCL group");
  const { worldSize, groupName, device = 0 } = options;
  if (!Number.isInteger(worldSize) || worldSize < 2) {
    throw new ValidationError(
      `worldSize must be a whole number of at least 2 (us and one server), not ${worldSize}`,
    );
  }
  if (worldSize > 128) {
    throw new ValidationError(
      `worldSize ${worldSize} is too large: above 128 ranks PyTorch forms communicators otherwise`,
    );
  }
  if (groupName === "") throw new ValidationError("groupName must not be empty");
  if (!Number.isInteger(device) || device < 0) {
    throw new ValidationError(`device must be a whole number from 0, not ${device}`);
  }
}
