import { ValidationError } from "../errors.ts";

/** Checks one value and returns it in wire form; `undefined` leaves the parameter out. */
export type ParameterCheck = (value: unknown, name: string) => unknown;

/** A whole number of at least `least`. */
export function integerFrom(least: number): ParameterCheck {
  return (value, name) => {
    if (Number.isSafeInteger(value) && (value as number) >= least) return value;
    throw refused(`${name} must be an integer of at least ${least}`, value);
  };
}

/** A finite number for which `isAllowed` holds; `rule` says which those are. */
export function numberThat(rule: string, isAllowed: (value: number) => boolean): ParameterCheck {
  return (value, name) => {
    if (typeof value === "number" && Number.isFinite(value) && isAllowed(value)) return value;
    throw refused(`${name} ${rule}`, value);
  };
}

/** `true` or `false`. */
export const flag: ParameterCheck = (value, name) => {
  if (typeof value === "boolean") return value;
  throw refused(`${name} must be true or false`, value);
};

/** Text that is not empty. */
export const text: ParameterCheck = (value, name) => {
  if (typeof value === "string" && value !== "") return value;
  throw refused(`${name} must be a text that is not empty`, value);
};

/** One text or several; an empty list leaves the parameter out. */
export const texts: ParameterCheck = (value, name) => {
  const list = typeof value === "string" ? [value] : value;
  if (!Array.isArray(list) || list.some((item) => typeof item !== "string" || item === "")) {
    throw refused(`${name} must be a text or a list of texts, none of them empty`, value);
  }
  return list.length === 0 ? undefined : value;
};

/** Token ids; an empty list leaves the parameter out. */
export const tokenIds: ParameterCheck = (value, name) => {
  const isList = Array.isArray(value) || ArrayBuffer.isView(value);
  const list = isList ? Array.from(value as ArrayLike<unknown>) : [value];
  if (list.some((id) => !Number.isInteger(id) || (id as number) < 0)) {
    throw refused(`${name} must be a list of token ids`, value);
  }
  return list.length === 0 ? undefined : list;
};

/** An object. */
export const record: ParameterCheck = (value, name) => {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  throw refused(`${name} must be an object`, value);
};

/** A JSON schema: SGLang takes it as a string. */
export const jsonSchema: ParameterCheck = (value, name) =>
  typeof value === "string" ? text(value, name) : JSON.stringify(record(value, name));

/**
 * Largest bias of a token: it bans or forces a token for certain, and does not overflow the server's
 * float32 logits, which would make every log-probability NaN.
 */
const MAX_BIAS = 1_000_000_000;

/** Biases by token id. */
export const biases: ParameterCheck = (value, name) => {
  for (const [id, bias] of Object.entries(record(value, name) as object)) {
    if (!/^\d+$/.test(id)) throw refused(`${name} must have token ids as keys`, id);
    if (typeof bias !== "number" || !Number.isFinite(bias)) {
      throw refused(`${name} of token ${id} must be a finite number`, bias);
    }
    if (Math.abs(bias) > MAX_BIAS) {
      throw refused(`${name} of token ${id} must be between -${MAX_BIAS} and ${MAX_BIAS}`, bias);
    }
  }
  return value;
};

/** The error of a value that is not allowed; nothing is sent. */
export function refused(rule: string, value: unknown): ValidationError {
  return new ValidationError(
    `${rule}, got ${(JSON.stringify(value) ?? String(value)).slice(0, 80)}`,
  );
}
