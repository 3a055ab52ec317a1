import { LimitError } from "../errors.ts";

/** Characters that the rules of a tokenizer's file may make of a text: some of them may double it. */
const MAX_CHARACTERS = 64 * 2 ** 20;

/**
 * A text in which the matches of a pattern are replaced, by a rule of somebody else's file. What comes
 * of it is counted before it is made.
 *
 * @throws {LimitError} It would have more than 64 Mi characters.
 */
export function replaceWithin(text: string, pattern: string | RegExp, content: string): string {
  if (typeof pattern === "string") {
    let count = 0;
    if (content.length > pattern.length) {
      const step = Math.max(1, pattern.length);
      for (let at = text.indexOf(pattern); at >= 0; at = text.indexOf(pattern, at + step)) {
        count++;
        // An empty pattern is found at the end again and again.
        if (at + step > text.length) break;
      }
    }
    checkReplaced(text.length + count * (content.length - pattern.length));
    return text.replaceAll(pattern, () => content);
  }
  let size = text.length;
  return text.replace(pattern, (match) => {
    size += content.length - match.length;
    checkReplaced(size);
    return content;
  });
}

/** Throws when a text that a rule makes has come to too many characters. */
export function checkReplaced(size: number): void {
  if (size <= MAX_CHARACTERS) return;
  throw new LimitError(
    `a rule of tokenizer.json makes more than ${MAX_CHARACTERS} characters of a text`,
    { limit: "replacedCharacters", max: MAX_CHARACTERS },
  );
}
