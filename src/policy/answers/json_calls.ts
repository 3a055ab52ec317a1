/** Calls as JSON objects. */
import { callOf, fault, type Found, withoutEndTokens } from "./answer.ts";
import { tryJson } from "../exact_numbers.ts";
import { jsonPieces } from "./json_values.ts";

/** JSON objects, or lists of them, one after the other, with `;` or white space between them. */
export function jsonCalls(text: string): Found[] {
  const pieces = [...jsonPieces(withoutEndTokens(text))];
  const found = pieces.flatMap(({ text: json, isValue }) => isValue ? callsIn(json) : []);
  // What stands behind may be a part of them.
  const isWhole = pieces.length > 0 && pieces.at(-1)!.isValue;
  return isWhole ? found : [fault(text, "the call is not JSON")];
}

function callsIn(json: string): Found[] {
  const read = tryJson(json);
  if (read === null) return [fault(json, "the call is not JSON")];
  return (Array.isArray(read.value) ? read.value : [read.value]).map((one) => callOf(one, json));
}
