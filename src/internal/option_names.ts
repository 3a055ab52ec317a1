import { ValidationError } from "../errors.ts";
import { nearestName } from "./suggest.ts";

/**
 * Every name of an options type, once. Written with `satisfies`, so that a name that is added to the
 * type and forgotten here does not compile.
 */
export type OptionNames<Options> = Readonly<Record<keyof Options, true>>;

/**
 * Refuses names that are no option, with the nearest one that is. A name given as `undefined` is
 * refused too: it is a slip of the pen as much.
 *
 * @param options What the caller gave.
 * @param known All names.
 * @param owner Who takes the options, for example `"a router"`.
 * @param hint What else can be done, as a sentence.
 * @throws {ValidationError} A name is unknown.
 */
export function checkOptionNames(
  options: object,
  known: Readonly<Record<string, true>>,
  owner: string,
  hint = "",
): void {
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(known, name)) continue;
    const near = nearestName(name, Object.keys(known));
    throw new ValidationError(
      `Unknown option "${name}" of ${owner}` +
        (near === undefined ? "" : `; did you mean "${near}"?`) +
        (hint === "" ? "" : near === undefined ? `. ${hint}` : ` ${hint}`),
    );
  }
}

/** Refuses a value that is none of the names that an option may have. */
export function checkOneOf(option: string, value: unknown, names: readonly string[]): void {
  if (names.some((name) => name === value)) return;
  const list = names.map((name) => JSON.stringify(name)).join(", ");
  throw new ValidationError(`${option} must be one of ${list}, not ${JSON.stringify(value)}`);
}

/** The options among `options` that are named in `known`; for options that hold those of a part. */
export function onlyNamed<Known extends Readonly<Record<string, true>>, Options extends object>(
  options: Options,
  known: Known,
): Pick<Options, keyof Known & keyof Options> {
  return Object.fromEntries(
    Object.entries(options).filter(([name]) => Object.hasOwn(known, name)),
  ) as Pick<Options, keyof Known & keyof Options>;
}

/** Those among `values` that are not `undefined`. */
export function onlyGiven<Values extends object>(
  values: Values,
): { [Name in keyof Values]?: Exclude<Values[Name], undefined> } {
  return Object.fromEntries(
    Object.entries(values).filter(([, value]) => value !== undefined),
  ) as { [Name in keyof Values]?: Exclude<Values[Name], undefined> };
}
