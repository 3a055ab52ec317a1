import { StateError, ValidationError } from "../errors.ts";

/** A version of a policy: `policy@17`. */
export interface AdapterName {
  /** `policy` */
  readonly policy: string;
  /** 17 */
  readonly number: number;
}

/** Longest name; servers show it in lists and logs. */
const MAX_LENGTH = 128;
const VERSION = /^(.+)@([1-9]\d{0,14})$/;

/** Splits a name such as `policy@17`; `undefined` for one without a number. */
export function parseAdapterName(name: string): AdapterName | undefined {
  const match = VERSION.exec(name);
  return match === null ? undefined : { policy: match[1]!, number: Number(match[2]) };
}

/**
 * Refuses a name that a server would read otherwise: `:` parts model and adapter in a chat request,
 * and `newest` and `@` have a meaning here.
 */
export function checkPolicyName(policy: string): void {
  const isWell = typeof policy === "string" && /^[A-Za-z0-9][A-Za-z0-9._/-]*$/.test(policy) &&
    policy.length <= MAX_LENGTH && policy !== NEWEST && policy !== "None";
  if (isWell) return;
  throw new ValidationError(
    `The name of a policy is letters, digits, ".", "_", "-" and "/", at most ${MAX_LENGTH} of them, ` +
      `not "${NEWEST}"; got ${
        JSON.stringify(policy)
      }. Its versions are called "name@1", "name@2", …`,
  );
}

/** Stands for the newest version of the only policy. */
export const NEWEST = "newest";

/**
 * The names of adapters: a name is given once and never again, whatever became of its sync, so that
 * the name of a token is evidence.
 */
export class AdapterNames {
  readonly #highest = new Map<string, number>();

  /** Notes a name that a server has. */
  found(name: string): void {
    const known = parseAdapterName(name);
    if (known === undefined) return;
    this.#highest.set(known.policy, Math.max(known.number, this.#highest.get(known.policy) ?? 0));
  }

  /**
   * The next name of a policy, or the name that is asked for.
   *
   * @param name `"policy"` for the next number, `"policy@17"` for just this one.
   * @throws {StateError} The number, or a later one, was given before.
   */
  reserve(name: string): AdapterName & { readonly name: string } {
    const asked = parseAdapterName(name);
    const policy = asked?.policy ?? name;
    checkPolicyName(policy);
    const highest = this.#highest.get(policy) ?? 0;
    if (asked !== undefined && asked.number <= highest) {
      throw new StateError(
        `"${name}" cannot be given: the policy "${policy}" is at ${highest} already, and a name is ` +
          `never given twice. Give "${policy}" for the next number`,
      );
    }
    const number = asked?.number ?? highest + 1;
    this.#highest.set(policy, number);
    return { policy, number, name: `${policy}@${number}` };
  }
}
