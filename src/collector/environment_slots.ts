import type { Environment } from "./environment.ts";
import type { EnvironmentSource } from "./options.ts";
import { EnvironmentPool } from "./pool.ts";

/** The environments of a collector, whatever they were given as. */
export interface EnvironmentSlots {
  readonly size: number;
  readonly maxConcurrency: number;
  /** Whether the collector made them, and closes them. */
  readonly owned: boolean;
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
