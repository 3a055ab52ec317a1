import { overLimit } from "./limits.ts";

/** Characters that the rules of a tokenizer's file may make of a text: some of them may double it. */
export const TEXT_CHARACTERS = 64 * 2 ** 20;
let allowed = TEXT_CHARACTERS;

/** Runs something that does not wait, whose rules may make so many characters of a text. */
export function withReplaced<T>(characters: number | undefined, run: () => T): T {
  const before = allowed;
  allowed = characters ?? TEXT_CHARACTERS;
  try {
    return run();
  } finally {
    allowed = before;
  }
}

/**
 * A text in which the matches of a pattern are replaced, by a rule of somebody else's file. What comes
 * of it is counted before it is made.
 *
 * @throws {LimitError} It would have too many characters, by default 64 Mi.
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
  if (size <= allowed) return;
  throw overLimit(
    `a rule of tokenizer.json makes ${size} characters of a text`,
    "textCharacters",
    allowed,
  );
}
