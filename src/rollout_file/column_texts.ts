import { ValidationError } from "../errors.ts";
import { parseJsonOfFile } from "../internal/json.ts";

/** Bytes of a column as text. */
export function decode(part: DataView<ArrayBuffer>, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(part);
  } catch (cause) {
    throw new ValidationError(`${where} is not UTF-8`, { cause });
  }
}

/** A list of names in the metadata. */
export function nameList(text: string | undefined, where: string): readonly string[] {
  const value = text === undefined ? undefined : parseJsonOfFile(text, where);
  if (Array.isArray(value) && value.every((name) => typeof name === "string")) return value;
  throw new ValidationError(`${where} should be a list of texts`);
}
