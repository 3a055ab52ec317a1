import { endOfString } from "../internal/json.ts";
import { invalid } from "./fault.ts";
import type { GatewayLimits } from "./options.ts";

/** What a body may hold, before anything is made of it. */
export type BodyLimits = Pick<
  GatewayLimits,
  "maxDepth" | "maxObjects" | "maxNames" | "maxItems" | "maxTexts"
>;

const QUOTE = 34, OPEN_LIST = 91, CLOSE_LIST = 93, OPEN_MAP = 123, CLOSE_MAP = 125;
const COLON = 58, COMMA = 44;
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
  let depth = 0, objects = 0, names = 0, items = 0, texts = 0;
  let looked = 0;
  for (let i = 0; i < text.length; i++) {
    if (i - looked >= CHARACTERS_A_TURN) {
      looked = i;
      await turn();
    }
    switch (text.charCodeAt(i)) {
      case QUOTE:
        if (++texts > maxTexts) throw tooMany("texts", "maxTexts", maxTexts);
        i = endOfString(text, i);
        break;
      case OPEN_LIST:
      case OPEN_MAP:
        if (++depth > maxDepth) {
          throw invalid(`The body is nested deeper than maxDepth, ${maxDepth}`);
        }
        if (++objects > maxObjects) throw tooMany("objects and lists", "maxObjects", maxObjects);
        break;
      case CLOSE_LIST:
      case CLOSE_MAP:
        depth--;
        break;
      case COLON:
        if (++names > maxNames) throw tooMany("names", "maxNames", maxNames);
        break;
      case COMMA:
        if (++items > maxItems) throw tooMany("items", "maxItems", maxItems);
        break;
    }
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
