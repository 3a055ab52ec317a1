// Characters that nobody would see, or that turn the text around, as marks. Everything that the page
// shows goes through here, so that no text looks like another.

// Controls, formats (bidi, zero width, tags), unpaired halves, variation selectors, fillers, line and
// paragraph separators, and every blank but the plain one.
const unseen = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{DI}\u2800]|(?! )\p{Zs}/gu;
// Of an emoji's own: a joiner between two, and the selector of its coloured form.
const emoji =
  /(?<=\p{Extended_Pictographic}|\p{Emoji_Modifier}|[#*0-9])\uFE0F|(?<=\p{Extended_Pictographic}\uFE0F?|\p{Emoji_Modifier})\u200D(?=\p{Extended_Pictographic})/gu;

/** A text in pieces: what is shown as it is, and marks for what could not be seen. */
export function pieces(text) {
  const kept = new Set(Array.from(text.matchAll(emoji), ({ index }) => index));
  const parts = [];
  let from = 0;
  for (const { 0: character, index } of text.matchAll(unseen)) {
    if (character === "\n" || character === "\t" || kept.has(index)) continue;
    if (index > from) parts.push({ text: text.slice(from, index), isMark: false });
    const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    parts.push({ text: `⟨U+${code}⟩`, isMark: true });
    from = index + character.length;
  }
  if (from < text.length) parts.push({ text: text.slice(from), isMark: false });
  return parts;
}

/** The same as one text, for where there is room for text alone. */
export function plain(text) {
  return pieces(text).map((piece) => piece.text).join("");
}

/** A token's text with its blanks and line ends to be seen, too. */
export function tokenPieces(text) {
  return pieces(text.replaceAll("\r\n", "␍↵\n").replaceAll("\r", "␍")).map(({ text, isMark }) => ({
    text: isMark
      ? text
      : text.replaceAll(" ", "·").replaceAll(/(?<!↵)\n/g, "↵\n").replaceAll("\t", "→\t"),
    isMark,
  }));
}
