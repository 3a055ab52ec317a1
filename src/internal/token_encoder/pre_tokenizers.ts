/** How a text is cut into words, of which each becomes tokens by itself. */
import { isRecord } from "../json.ts";
import { asByteCharacters, numeric, punctuation, rustWord, whiteSpace } from "./characters.ts";
import { listOf, patternOf } from "./normalizers.ts";
import { NotKnown } from "./not_known.ts";
import { matchesOf, onigPattern } from "./onig_pattern.ts";

/** A piece of a text. */
export interface Piece {
  /** The text. */
  readonly text: string;
  /** Whether the whole text begins with it. */
  readonly isFirst: boolean;
}

/** Cuts a piece into smaller ones, none of them empty. */
export interface PreTokenizer {
  /** The pieces of a piece, each cut when it is asked for. */
  cut(piece: Piece): Iterable<Piece>;
  /** Whether words are to be written as bytes in GPT-2's characters then. */
  readonly endsInBytes: boolean;
}

type Cut = PreTokenizer["cut"];
type Behavior = "Isolated" | "Removed" | "MergedWithPrevious" | "MergedWithNext" | "Contiguous";

const gpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/**
 * The pre-tokenizer of a `tokenizer.json`.
 *
 * @throws {NotKnown} It has one that is not known here.
 */
export function makePreTokenizer(config: unknown): PreTokenizer {
  const steps = stepsOf(config);
  const isBytes = (step: Record<string, unknown> | undefined) => step?.type === "ByteLevel";
  const endsInBytes = isBytes(steps.at(-1));
  const cuts = steps.flatMap((step, index) => {
    const cut = cutOf(step);
    const isLast = index === steps.length - 1;
    return isBytes(step) && !isLast ? [cut, mapped(asByteCharacters)] : [cut];
  });
  return {
    cut: (piece) => cuts.reduce((pieces: Iterable<Piece>, cut) => each(pieces, cut), [piece]),
    endsInBytes,
  };
}

function* each(pieces: Iterable<Piece>, cut: Cut): Generator<Piece, void, undefined> {
  for (const piece of pieces) yield* cut(piece);
}

function stepsOf(config: unknown): Record<string, unknown>[] {
  if (config === null || config === undefined) return [];
  if (!isRecord(config)) throw new NotKnown("a pre-tokenizer that is no object");
  return config.type === "Sequence" ? listOf(config.pretokenizers).flatMap(stepsOf) : [config];
}

function cutOf(step: Record<string, unknown>): Cut {
  switch (step.type) {
    case "Split":
      return split(patternOf(step.pattern), behaviorOf(step.behavior), step.invert === true);
    case "ByteLevel":
      return byteLevel(step);
    case "Metaspace":
      return metaspace(step);
    case "Digits": {
      const behavior = step.individual_digits === true ? "Isolated" : "Contiguous";
      return split(classOf(numeric), behavior);
    }
    case "Punctuation":
      return split(classOf(punctuation), behaviorOf(step.behavior ?? "Isolated"));
    case "Whitespace":
      return split(
        new RegExp(`[${rustWord}]+|[^${rustWord}${whiteSpace}]+`, "gv"),
        "Removed",
        true,
      );
    case "WhitespaceSplit":
      return split(classOf(whiteSpace), "Removed");
    case "BertPreTokenizer": {
      const words = split(classOf(whiteSpace), "Removed");
      const marks = split(classOf(punctuation), "Isolated");
      return (piece) => each(words(piece), marks);
    }
    case "FixedLength":
      return fixedLength(Number(step.length ?? 5));
    case "CharDelimiterSplit":
      return split(patternOf({ String: String(step.delimiter ?? " ") }), "Removed");
    default:
      throw new NotKnown(`the pre-tokenizer ${String(step.type)}`);
  }
}

function classOf(inside: string): RegExp {
  return new RegExp(`[${inside}]`, "gv");
}

function behaviorOf(value: unknown): Behavior {
  const plain = String(value).replace(/[\s_]/g, "").toLowerCase();
  const all = [
    "Isolated",
    "Removed",
    "MergedWithPrevious",
    "MergedWithNext",
    "Contiguous",
  ] as const;
  const behavior = all.find((one) => one.toLowerCase() === plain);
  if (behavior === undefined) throw new NotKnown(`the behavior ${String(value)} of a split`);
  return behavior;
}

function byteLevel(step: Record<string, unknown>): Cut {
  const hasPrefix = step.add_prefix_space !== false;
  const words = step.use_regex === false ? null : split(onigPattern(gpt2), "Isolated");
  return ({ text, isFirst }) => {
    const piece = { text: hasPrefix && !text.startsWith(" ") ? ` ${text}` : text, isFirst };
    return words === null ? [piece] : words(piece);
  };
}

function metaspace(step: Record<string, unknown>): Cut {
  const mark = String(step.replacement ?? "▁");
  const scheme = step.prepend_scheme ?? (step.add_prefix_space === false ? "never" : "always");
  const words = step.split === false ? null : split(patternOf({ String: mark }), "MergedWithNext");
  return ({ text, isFirst }) => {
    let marked = text.replaceAll(" ", mark);
    const isMarked = scheme === "always" || scheme === "first" && isFirst;
    if (isMarked && !marked.startsWith(mark)) marked = mark + marked;
    const piece = { text: marked, isFirst };
    return words === null ? [piece] : words(piece);
  };
}

function fixedLength(length: number): Cut {
  if (!(Number.isSafeInteger(length) && length > 0)) {
    throw new NotKnown("a FixedLength without one");
  }
  return function* ({ text, isFirst }) {
    for (let at = 0; at < text.length;) {
      let end = at;
      for (let count = 0; count < length && end < text.length; count++) {
        end += text.codePointAt(end)! > 0xffff ? 2 : 1;
      }
      yield { text: text.slice(at, end), isFirst: isFirst && at === 0 };
      at = end;
    }
  };
}

function mapped(change: (text: string) => string): Cut {
  return ({ text, isFirst }) => [{ text: change(text), isFirst }];
}

/** Cuts at the matches of a pattern, or, inverted, at what is between them. */
function split(pattern: RegExp, behavior: Behavior, isInverted = false): Cut {
  const merge = merges[behavior];
  return function* ({ text, isFirst }) {
    for (const { start, end } of merge(partsOf(text, pattern, isInverted))) {
      if (end > start) yield { text: text.slice(start, end), isFirst: isFirst && start === 0 };
    }
  };
}

interface Part {
  readonly start: number;
  readonly end: number;
  readonly isMatch: boolean;
}

type Parts = Generator<Part, void, undefined>;

function* partsOf(text: string, pattern: RegExp, isInverted: boolean): Parts {
  let last = 0;
  for (const [start, end] of matchesOf(pattern, text)) {
    if (start > last) yield { start: last, end: start, isMatch: isInverted };
    yield { start, end, isMatch: !isInverted };
    last = end;
  }
  if (last < text.length) yield { start: last, end: text.length, isMatch: isInverted };
}

/** Merges each part with the one before it where the two belong together. */
function merging(belong: (before: Part, part: Part) => boolean): (parts: Parts) => Parts {
  return function* (parts) {
    let held: Part | null = null;
    for (const part of parts) {
      if (held !== null && belong(held, part)) {
        held = { start: held.start, end: part.end, isMatch: part.isMatch };
        continue;
      }
      if (held !== null) yield held;
      held = part;
    }
    if (held !== null) yield held;
  };
}

const merges: Readonly<Record<Behavior, (parts: Parts) => Parts>> = {
  Isolated: (parts) => parts,
  Removed: function* (parts) {
    for (const part of parts) if (!part.isMatch) yield part;
  },
  Contiguous: merging((before, part) => before.isMatch === part.isMatch),
  // Of matches that follow each other the first goes to what is before, the last to what is behind.
  MergedWithPrevious: merging((before, part) => part.isMatch && !before.isMatch),
  MergedWithNext: merging((before, part) => before.isMatch && !part.isMatch),
};
