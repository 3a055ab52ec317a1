/** Upper, lower and title case as Python has them. */
import { budgetAtHand } from "./budget.ts";

/** Characters whose title case is not their upper case, each before it. */
const titlePairs = [
  "ßSs Ǆǅ ǅǅ ǆǅ Ǉǈ ǈǈ ǉǈ Ǌǋ ǋǋ ǌǋ Ǳǲ ǲǲ ǳǲ ևԵւ ᾀᾈ ᾁᾉ ᾂᾊ ᾃᾋ ᾄᾌ ᾅᾍ ᾆᾎ ᾇᾏ ᾈᾈ ᾉᾉ ᾊᾊ ᾋᾋ ᾌᾌ ᾍᾍ ᾎᾎ",
  "ᾏᾏ ᾐᾘ ᾑᾙ ᾒᾚ ᾓᾛ ᾔᾜ ᾕᾝ ᾖᾞ ᾗᾟ ᾘᾘ ᾙᾙ ᾚᾚ ᾛᾛ ᾜᾜ ᾝᾝ ᾞᾞ ᾟᾟ ᾠᾨ ᾡᾩ ᾢᾪ ᾣᾫ ᾤᾬ ᾥᾭ ᾦᾮ ᾧᾯ ᾨᾨ ᾩᾩ ᾪᾪ ᾫᾫ",
  "ᾬᾬ ᾭᾭ ᾮᾮ ᾯᾯ ᾲᾺͅ ᾳᾼ ᾴΆͅ ᾷᾼ͂ ᾼᾼ ῂῊͅ ῃῌ ῄΉͅ ῇῌ͂ ῌῌ ῲῺͅ ῳῼ ῴΏͅ ῷῼ͂ ῼῼ ﬀFf ﬁFi ﬂFl ﬃFfi",
  "ﬄFfl ﬅSt ﬆSt ﬓՄն ﬔՄե ﬕՄի ﬖՎն ﬗՄխ",
].join(" ");

const titles = new Map(
  titlePairs.split(" ").map((pair): [string, string] => {
    const [char = ""] = pair;
    return [char, pair.slice(char.length)];
  }),
);
// Georgian has upper case letters that begin no word.
const georgian = /^[\u10d0-\u10fa\u10fd-\u10ff]$/;

/** Title case of one character: upper case, but for those that have their own. */
export function titleCase(char: string): string {
  return titles.get(char) ?? (georgian.test(char) ? char : char.toUpperCase());
}

/** Upper case of the first code point, lower case of the rest. */
export function capitalize(text: string): string {
  const [first = ""] = text;
  return titleCase(first) + lowerFrom(text, first.length);
}

/** Lower case, as Python has it. */
export function lower(text: string): string {
  return text.toLowerCase();
}

/** Lower case of a text from a place on: a sigma looks at what stands before it. */
function lowerFrom(text: string, start: number): string {
  if (!text.includes("Σ", start)) return lower(text.slice(start));
  return lowerSigmas(text).slice(start).toLowerCase();
}

/** A text with its sigmas in lower case: another one at the end of a word. */
function lowerSigmas(text: string): string {
  if (!text.includes("Σ")) return text;
  // Whether a letter with case stands before each place, and behind it, past what does not count.
  const before = casedNear([...text]);
  const behind = casedNear([...text].reverse()).reverse();
  return [...text].map((char, at) => char !== "Σ" ? char : before[at] && !behind[at] ? "ς" : "σ")
    .join("");
}

function casedNear(chars: readonly string[]): boolean[] {
  let isCased = false;
  return chars.map((char) => {
    const known = isCased;
    if (!/\p{Case_Ignorable}/u.test(char)) isCased = /\p{Cased}/u.test(char);
    return known;
  });
}

/** `text.title()`: each word begins with title case. */
export function title(text: string): string {
  let isInWord = false;
  let result = "";
  const lowered = [...lowerSigmas(text)];
  [...text].forEach((char, at) => {
    result += isInWord ? lower(lowered[at]!) : titleCase(char);
    isInWord = /\p{Cased}/u.test(char);
  });
  return result;
}

/** `text.swapcase()`. */
export function swapCase(text: string): string {
  const lowered = [...lowerSigmas(text)];
  return Array.from(
    text,
    (char, at) =>
      /\p{Uppercase}/u.test(char)
        ? lower(lowered[at]!)
        : /\p{Lowercase}/u.test(char)
        ? char.toUpperCase()
        : char,
  ).join("");
}

/** `text.casefold()`. */
export function caseFold(text: string): string {
  return Array.from(text, (char) => {
    if (char === "ı") return char;
    // Cherokee folds to its upper case.
    if (/[\u13a0-\u13f5\u13f8-\u13fd\uab70-\uabbf]/.test(char)) return char.toUpperCase();
    if (char === "ẞ") return "ss";
    return char.toUpperCase().toLowerCase().replaceAll("ς", "σ");
  }).join("");
}

/** Decimal digits of any script as those of ASCII. */
export function asciiDigits(text: string): string {
  // deno-lint-ignore no-control-regex
  if (!/[^\x00-\x7f]/.test(text)) return text;
  budgetAtHand()?.each(10 * text.length);
  return text.replace(/(?![0-9])\p{Nd}/gu, (digit) => {
    const code = digit.codePointAt(0)!;
    let first = code;
    // Digits stand in tens, without a gap.
    while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first--;
    return String((code - first) % 10);
  });
}
