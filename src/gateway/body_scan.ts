import { jsonBegin, type JsonCounts, scanJson } from "../internal/json.ts";
import { invalid } from "./fault.ts";
import type { GatewayLimits } from "./options.ts";

/** What a body may hold, before anything is made of it. */
export type BodyLimits = Pick<
  GatewayLimits,
  "maxDepth" | "maxObjects" | "maxNames" | "maxItems" | "maxTexts"
>;

/** Characters that are looked at before others have their turn. */
const CHARACTERS_A_TURN = 128 * 1024;

/**
 * Counts what the text of a body would make: a body of some megabytes may hold so many names, objects
 * or items that reading it takes seconds. Texts are passed over, and nothing is built.
 *
 * @param turn Waits until others had their turn.
 * @throws {GatewayRefusal} It holds more than it may, or is nested deeper.
 */
export async function scanBody(
  text: string,
  { maxDepth, maxObjects, maxNames, maxItems, maxTexts }: BodyLimits,
  turn: () => Promise<void>,
): Promise<void> {
  const most: JsonCounts = {
    depth: maxDepth,
    objects: maxObjects,
    names: maxNames,
    items: maxItems,
    texts: maxTexts,
  };
  const scan = jsonBegin();
  for (;;) {
    const end = Math.min(scan.at + CHARACTERS_A_TURN, text.length);
    switch (scanJson(text, most, scan, end)) {
      case "depth":
        throw invalid(`The body is nested deeper than maxDepth, ${maxDepth}`);
      case "objects":
        throw tooMany("objects and lists", "maxObjects", maxObjects);
      case "names":
        throw tooMany("names", "maxNames", maxNames);
      case "items":
        throw tooMany("items", "maxItems", maxItems);
      case "texts":
        throw tooMany("texts", "maxTexts", maxTexts);
    }
    if (scan.at >= text.length) return;
    await turn();
  }
}

/** What holds more of something than one of the limits of a gateway allows. */
export function tooMany(what: string, limit: keyof GatewayLimits, most: number, param?: string) {
  const place = param === undefined ? "The body" : `"${param}"`;
  return invalid(
    `${place} holds more than ${most} ${what}. The gateway's limits.${limit} allows no more`,
    param,
  );
}
