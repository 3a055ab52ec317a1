import { ValidationError } from "../errors.ts";
import { jsonExcess } from "../internal/json.ts";

/** Bytes of a column as text. */
export function decode(part: DataView<ArrayBuffer>, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(part);
  } catch (cause) {
    throw new ValidationError(`${where} is not UTF-8`, { cause });
  }
}

/** Text of a column as JSON. */
export function parse(text: string, where: string): unknown {
  const excess = jsonExcess(text);
  if (excess !== null) throw new ValidationError(`${where} ${excess}`);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ValidationError(`${where} is not JSON`, { cause });
  }
}

/** A list of names in the metadata. */
export function nameList(text: string | undefined, where: string): readonly string[] {
  const value = text === undefined ? undefined : parse(text, where);
  if (Array.isArray(value) && value.every((name) => typeof name === "string")) return value;
  throw new ValidationError(`${where} should be a list of texts`);
}
