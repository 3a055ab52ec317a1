import { ValidationError } from "../errors.ts";
import type { Environment } from "./environment.ts";
import type { EnvironmentSource } from "./options.ts";
import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";

/** Options of {@linkcode EnvironmentPool}. */
export interface EnvironmentPoolOptions {
  /** How many environments there are: most dialogs that run at once. */
  readonly size: number;
  /**
   * Most `reset` and `step` calls that run at once, for environments that share something scarce
   * such as sandboxes. Default `size`.
   */
  readonly maxConcurrency?: number | undefined;
}

const OPTION_NAMES = {
  size: true,
  maxConcurrency: true,
} as const satisfies OptionNames<EnvironmentPoolOptions>;

/**
 * Environments that run each at its own pace. The collector makes them as it needs them, replaces one
 * that missed its deadline, and closes those it made.
 *
 * @example
 * ```ts
 * import { EnvironmentPool } from "./pool.ts";
 * import { promptEnvironment } from "./environments/prompts.ts";
 *
 * const pool = new EnvironmentPool(
 *   () => promptEnvironment({ prompts: ["Hi"], reward: ({ message }) => message.content.length }),
 *   { size: 64 },
 * );
 * ```
 */
export class EnvironmentPool {
  /** Makes the environment of a place. */
  readonly make: (index: number) => Environment | Promise<Environment>;
  /** How many environments there are. */
  readonly size: number;
  /** Most calls into environments at once. */
  readonly maxConcurrency: number;

  /**
   * Describes the pool; nothing is made yet.
   *
   * @throws {ValidationError} When an option is out of range.
   */
  constructor(
    make: (index: number) => Environment | Promise<Environment>,
    options: EnvironmentPoolOptions,
  ) {
    checkOptionNames(options, OPTION_NAMES, "an EnvironmentPool");
    const { size, maxConcurrency = size } = options;
    requirePositive("size", size);
    requirePositive("maxConcurrency", maxConcurrency);
    this.make = make;
    this.size = size;
    this.maxConcurrency = maxConcurrency;
  }
}

function requirePositive(name: string, value: number): void {
  if (Number.isInteger(value) && value > 0) return;
  throw new ValidationError(`Cannot make a pool: ${name} must be a whole number above 0: ${value}`);
}

/** The environments of a collector, whatever they were given as. */
export interface EnvironmentSlots {
  /** How many there are. */
  readonly size: number;
  /** Most calls into them that run at once. */
  readonly maxConcurrency: number;
  /** Whether the collector made them, and closes them. */
  readonly owned: boolean;
  /** The environment at a place. */
  readonly open: (index: number) => Environment | Promise<Environment>;
}

/** Brings the ways of giving environments to one form. */
export function environmentSlots(source: EnvironmentSource): EnvironmentSlots {
  if (source instanceof EnvironmentPool) {
    const { size, maxConcurrency, make } = source;
    return { size, maxConcurrency, owned: true, open: make };
  }
  const list: readonly Environment[] = "reset" in source ? [source] : source;
  return {
    size: list.length,
    maxConcurrency: list.length,
    owned: false,
    open: (index) => list[index]!,
  };
}
