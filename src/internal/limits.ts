import { LimitError, ValidationError } from "../errors.ts";
import { checkOptionNames } from "./option_names.ts";

/** Limits that a caller may set, by their names. */
export type Limits<Name extends string> = { readonly [Limit in Name]?: number | undefined };

/**
 * The limits of a part: what the caller gave, else its defaults.
 *
 * @param owner Whose limits they are, for the error: `"a tokenizer"`.
 * @throws {ValidationError} One has no such name, or is no number above 0. `Infinity` is none at all.
 */
export function limitsOf<Name extends string>(
  given: Limits<Name> | undefined,
  defaults: Readonly<Record<Name, number>>,
  owner: string,
): Readonly<Record<Name, number>> {
  if (given === undefined) return defaults;
  const known = Object.fromEntries(Object.keys(defaults).map((name) => [name, true as const]));
  checkOptionNames(given, known, `the limits of ${owner}`);
  const all: Record<Name, number> = { ...defaults };
  for (const [name, value] of Object.entries(given) as [Name, unknown][]) {
    if (value === undefined) continue;
    if (typeof value !== "number" || !(value > 0)) {
      throw new ValidationError(
        `limits.${name} of ${owner} must be a number above 0, got ${String(value)}`,
      );
    }
    all[name] = value;
  }
  return all;
}

/** The error for more than a limit of `limits` allows. */
export function overLimit(what: string, limit: string, max: number): LimitError {
  return new LimitError(`${what}, more than limits.${limit}, ${max}`, {
    limit: `limits.${limit}`,
    max,
  });
}
