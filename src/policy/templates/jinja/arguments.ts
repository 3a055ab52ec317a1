import { type CallArguments, JinjaError, toIndex, Undefined } from "./values.ts";

/** Arguments of a call by the names of a Python signature. */
export class Arguments {
  readonly #name: string;
  readonly #parameters: readonly string[];
  readonly #values = new Map<string, unknown>();

  /**
   * Puts arguments to their parameters; `required` many must be there.
   *
   * @throws {JinjaError} There are too many, too few, or one is not known.
   */
  constructor(name: string, parameters: readonly string[], given: CallArguments, required = 0) {
    this.#name = name;
    this.#parameters = parameters;
    if (given.args.length > parameters.length) {
      throw new JinjaError(
        "TypeError",
        `${name}() takes at most ${parameters.length} arguments (${given.args.length} given)`,
      );
    }
    given.args.forEach((value, index) => this.#values.set(parameters[index]!, value));
    for (const [key, value] of given.named) {
      if (!parameters.includes(key)) {
        throw new JinjaError("TypeError", `${name}() got an unexpected keyword argument '${key}'`);
      }
      if (this.#values.has(key)) {
        throw new JinjaError("TypeError", `${name}() got multiple values for argument '${key}'`);
      }
      this.#values.set(key, value);
    }
    const missing = parameters.slice(0, required).find((parameter) => !this.#values.has(parameter));
    if (missing !== undefined) {
      throw new JinjaError("TypeError", `${name}() missing required argument: '${missing}'`);
    }
  }

  /** Whether it was given. */
  has(parameter: string): boolean {
    return this.#values.has(parameter);
  }

  /** A value, or the default. */
  get(parameter: string, otherwise: unknown = null): unknown {
    return this.#values.has(parameter) ? this.#values.get(parameter) : otherwise;
  }

  /** A text. */
  text(parameter: string, otherwise?: string): string {
    const value = this.get(parameter, otherwise);
    if (typeof value === "string") return value;
    throw this.#wrong(parameter, "str");
  }

  /** A text or None. */
  textOrNone(parameter: string): string | null {
    return this.get(parameter) === null ? null : this.text(parameter);
  }

  /** A whole number, as a JavaScript number. */
  integer(parameter: string, otherwise?: number): number {
    const value = this.get(parameter, otherwise === undefined ? undefined : BigInt(otherwise));
    if (typeof value === "boolean") return Number(value);
    if (typeof value === "bigint") return toIndex(value);
    throw this.#wrong(parameter, "int");
  }

  #wrong(parameter: string, wanted: string): JinjaError {
    const value = this.get(parameter);
    if (value instanceof Undefined) value.fail();
    const place = this.#parameters.indexOf(parameter) + 1;
    return new JinjaError("TypeError", `${this.#name}() argument ${place} must be ${wanted}`);
  }
}
