import type { MemoryMapper } from "./device_maps.ts";
import { ValidationError } from "../errors.ts";
import { type Clock, systemClock } from "../internal/clock.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import type { NcclLibraries } from "../weights/mod.ts";
import { isLocal, type LinkAddress, linkAddressText } from "./address.ts";
import { type TrainerWay, WAYS } from "./greeting.ts";

/** Options of {@linkcode TrainerLink.listen}. */
export interface TrainerLinkOptions {
  /**
   * A secret that trainers must have; it is never sent. Needed for an address that other hosts
   * reach. Default: anybody who reaches the address may push.
   */
  readonly key?: string | undefined;
  /** The ways that trainers may choose. Default: all that this process can do. */
  readonly ways?: readonly TrainerWay[] | undefined;
  /**
   * Lets trainers on GPUs of this host hand over device memory (`cuda-ipc`): the device that reads it,
   * which is the `device` of the sync scheme, and where the CUDA libraries are, as for the scheme.
   * Default: that way is not offered.
   */
  readonly cuda?: TrainerCuda | undefined;
  /** Shared memory for each trainer of this host, in bytes. Default 64 MiB. */
  readonly ringBytes?: number | undefined;
  /** Most trainers at once. Default 64. */
  readonly maxTrainers?: number | undefined;
  /** Largest batch that is sent, in bytes. Default 4 GiB. */
  readonly maxBatchBytes?: number | undefined;
  /** Longest time that a trainer may take to introduce itself, in milliseconds. Default 5000. */
  readonly greetingMs?: number | undefined;
  /** Hears who comes and goes. Default nobody. */
  readonly logger?: Logger | undefined;
  /** The time to use. @internal */
  readonly clock?: Clock | undefined;
}

/** The device that reads memory of trainers. */
export interface TrainerCuda {
  /** Index of the device. Default 0. */
  readonly device?: number | undefined;
  /** Where the CUDA runtime and the driver are, as `nccl` of the sync scheme's options. */
  readonly libraries?: NcclLibraries | undefined;
  /** What maps the memory. Default: `DeviceImporter` of `./nccl`. */
  readonly openMapper?: (() => Promise<MemoryMapper>) | undefined;
}

const OPTION_NAMES = {
  key: true,
  ways: true,
  cuda: true,
  ringBytes: true,
  maxTrainers: true,
  maxBatchBytes: true,
  greetingMs: true,
  logger: true,
  clock: true,
} as const satisfies OptionNames<TrainerLinkOptions>;

type Given<Name extends keyof TrainerLinkOptions> = NonNullable<TrainerLinkOptions[Name]>;

const DEFAULT_RING_BYTES = 64 * 2 ** 20;
const DEFAULT_BATCH_BYTES = 4 * 2 ** 30;

/** The options with their defaults. */
export type TrainerLinkSettings =
  & { readonly [Name in Exclude<keyof TrainerLinkOptions, "cuda">]-?: Given<Name> }
  & { readonly cuda: TrainerCuda | undefined };

/**
 * Checks the options and fills in the defaults.
 *
 * @throws {ValidationError} An option is wrong, or other hosts reach the address and there is no key.
 */
export function checkLinkOptions(
  address: LinkAddress,
  options: TrainerLinkOptions,
): TrainerLinkSettings {
  checkOptionNames(options, OPTION_NAMES, "a trainer link");
  const { key, ways, ringBytes, maxTrainers, maxBatchBytes, greetingMs } = options;
  if (key === "") throw new ValidationError("The key of a trainer link must not be empty");
  if (key === undefined && !isLocal(address)) {
    throw new ValidationError(
      `Other hosts reach ${linkAddressText(address)}: give a trainer link there a key`,
    );
  }
  const unknown = ways?.find((way) => !WAYS.includes(way));
  if (unknown !== undefined || ways?.length === 0) {
    throw new ValidationError(`The ways of a trainer link are some of ${WAYS.join(", ")}`);
  }
  for (
    const [name, value] of Object.entries({ ringBytes, maxTrainers, maxBatchBytes, greetingMs })
  ) {
    if (value === undefined || (Number.isSafeInteger(value) && value > 0)) continue;
    throw new ValidationError(`${name} of a trainer link must be a positive whole number`);
  }
  return {
    key: options.key ?? "",
    ways: options.ways ?? WAYS,
    cuda: options.cuda,
    ringBytes: options.ringBytes ?? DEFAULT_RING_BYTES,
    maxTrainers: options.maxTrainers ?? 64,
    maxBatchBytes: options.maxBatchBytes ?? DEFAULT_BATCH_BYTES,
    greetingMs: options.greetingMs ?? 5000,
    logger: options.logger ?? silentLogger,
    clock: options.clock ?? systemClock,
  };
}
