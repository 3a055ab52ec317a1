/** The long s and the sign of Kelvin, which are the letters s and k in another case. */
const further = ["\u017f", "\u212a"];

/**
 * A regular expression that may have parts in which the case does not matter, `(?i:…)`. Node 22 does
 * not know them: there each letter of such a part becomes the class of its cases.
 *
 * @param flags They must have `u` or `v`.
 * @throws {SyntaxError} It is none, or such a part has other letters than those of ASCII there.
 */
export function regularExpression(source: string, flags: string): RegExp {
  try {
    return new RegExp(source, flags);
  } catch (error) {
    if (!source.includes("(?i:")) throw error;
    return new RegExp(spellOutCases(source), flags);
  }
}

/** The same expression without `(?i:` and `(?-i:`. */
export function spellOutCases(source: string): string {
  const parts = source.matchAll(
    /\(\?-?i:|\(\?<[=!]|\(\?<\w+>|\((?:\?[:=!])?|\)|\\u\{[^}]*\}|\\u\w{4}|\\x\w\w|\\[pP](?:\{[^}]*\}|.)|\\.|\[\^?|\]|\p{L}-\p{L}|[^]/gu,
  );
  /** Whether the case matters in the groups that are open. */
  const groups: boolean[] = [];
  let classes = 0;
  let pattern = "";
  for (const [part] of parts) {
    const isIgnored = groups.at(-1) ?? false;
    if (classes === 0 && part.startsWith("(")) {
      const changes = /^\(\?-?i:$/.test(part);
      groups.push(changes ? part === "(?i:" : isIgnored);
      pattern += changes ? "(?:" : part;
      continue;
    }
    if (classes === 0 && part === ")") groups.pop();
    if (part.startsWith("[")) classes++;
    else if (part === "]") classes--;
    if (isIgnored && /^\\[pP]/.test(part)) {
      throw new SyntaxError(`${part} where the case does not matter: this needs Node 24`);
    }
    if (!isIgnored) pattern += part;
    else if (classes > 0) pattern += /^\p{L}-/u.test(part) ? casesOfRange(part) : casesOf(part);
    else pattern += (part.startsWith("\\") ? [part] : [...part]).map(asClass).join("");
  }
  return pattern;
}

/** A sign, as a class where it has cases. */
function asClass(sign: string): string {
  const cases = casesOf(sign);
  return cases === sign ? sign : `[${cases}]`;
}

/** A letter, and all that are the same in another case; another sign as it is. */
function casesOf(written: string): string {
  const code = /^\\[ux]\{?([0-9a-f]+)\}?$/i.exec(written)?.[1];
  const sign = code === undefined ? written : String.fromCodePoint(parseInt(code, 16));
  if (!/^[a-zA-Z\u{80}-\u{10ffff}]/u.test(sign)) return written;
  if (!/^[a-z\u017f\u212a]$/i.test(sign)) {
    throw new SyntaxError(`${sign} where the case does not matter: this needs Node 24`);
  }
  const same = new RegExp(`^${sign}$`, "iu");
  const candidates = [sign.toLowerCase(), sign.toUpperCase(), ...further];
  return [...new Set(candidates)].filter((one) => same.test(one)).join("");
}

function casesOfRange(range: string): string {
  if (!/^(?:[a-z]-[a-z]|[A-Z]-[A-Z])$/.test(range)) {
    throw new SyntaxError(`${range} where the case does not matter: this needs Node 24`);
  }
  const lower = range.toLowerCase();
  const other = further.filter((letter) => new RegExp(`[${lower}]`, "iu").test(letter));
  return `${lower}${range.toUpperCase()}${other.join("")}`;
}
