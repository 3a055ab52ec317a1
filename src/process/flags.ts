import { ValidationError } from "../errors.ts";

/** A flag's value: `true` gives the bare flag, `false` omits it, an array gives several values. */
export type FlagValue = string | number | boolean | readonly (string | number)[];

/** `--max-running-requests` for `maxRunningRequests`, `max_running_requests` or itself. */
export function flagName(key: string): string {
  const words = key.replace(/^--/, "").replace(/([a-z0-9])([A-Z])/g, "$1-$2");
  return "--" + words.replaceAll("_", "-").toLowerCase();
}

/**
 * The arguments for flags by name: `true` gives the bare flag, `false` and `undefined` omit it, an
 * array gives all its values after one flag (an empty array omits it).
 *
 * @throws {ValidationError} When a value is not finite or a name is not one of a flag.
 */
export function flagsToArgs(flags: Readonly<Record<string, FlagValue | undefined>>): string[] {
  return Object.entries(flags).flatMap(([key, value]) => {
    const name = flagName(key);
    if (!/^--[a-z0-9][a-z0-9-]*$/.test(name)) {
      throw new ValidationError(`"${key}" is not the name of a flag, such as "maxTotalTokens"`);
    }
    if (value === undefined || value === false) return [];
    if (value === true) return [name];
    if (!Array.isArray(value)) return pair(name, text(name, value as string | number));
    if (value.length === 0) return [];
    return [name, ...value.map((item) => text(name, item))];
  });
}

/** A value that looks like a flag has to be tied to its own. */
function pair(name: string, value: string): string[] {
  return value.startsWith("-") ? [`${name}=${value}`] : [name, value];
}

function text(name: string, value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  throw new ValidationError(
    `The value of ${name} must be text, a finite number, a boolean or a list of these, not ${value}`,
  );
}
