/** What is done to a text before it is cut. */
import { checkReplaced, replaceWithin } from "../replaced.ts";
import { isRecord } from "../json.ts";
import { bertNormalizer, lowercase, normalizeNmt, withoutAccents } from "./bert_normalizer.ts";
import { atOnce, type Steps } from "../work_turns.ts";
import { asByteCharacters, trimEnd, trimStart } from "./characters.ts";
import { formInSteps } from "./unicode_forms.ts";
import { matchesOf, onigPattern, textPattern } from "./onig_pattern.ts";
import { NotKnown } from "./not_known.ts";
import { precompiled } from "./precompiled.ts";

/** Makes another text of a text. */
export interface Normalizer {
  /** The other text. */
  of(text: string): string;
  /** The same in steps, where it takes long for some texts. */
  readonly steps?: ((text: string) => Steps<string>) | undefined;
}

/** Another text of a text in steps, of which none is long. */
export function* normalizedInSteps(text: string, normalizer: Normalizer): Steps<string> {
  if (normalizer.steps !== undefined) return yield* normalizer.steps(text);
  // What is done by the engine itself takes little for each character.
  if (text.length > FREE_CHARACTERS) yield text.length / 128;
  return normalizer.of(text);
}

/** So much of a text is worth no step. */
const FREE_CHARACTERS = 1024;

function inSteps(steps: (text: string) => Steps<string>): Normalizer {
  return { of: (text) => atOnce(steps(text)), steps };
}

function* sequence(normalizers: readonly Normalizer[], given: string): Steps<string> {
  let text = given;
  for (const one of normalizers) text = yield* normalizedInSteps(text, one);
  return text;
}

/** Texts that show whether an expression finds nothing somewhere. */
const probes = ["a", " a b ", "'s 1\n\n", "é文!?\r\n.", "\u0301_-\t"];

const forms = ["NFC", "NFD", "NFKC", "NFKD"] as const;

/**
 * The normalizer of a `tokenizer.json`.
 *
 * @throws {NotKnown} It has one that is not known here.
 */
export function makeNormalizer(config: unknown): Normalizer {
  if (config === null || config === undefined) return { of: (text) => text };
  if (!isRecord(config)) throw new NotKnown("a normalizer that is no object");
  const form = forms.find((one) => one === config.type);
  if (form !== undefined) return inSteps((text) => formInSteps(text, form));
  if (config.type === "Sequence") {
    const all = listOf(config.normalizers).map(makeNormalizer);
    return inSteps((text) => sequence(all, text));
  }
  if (config.type === "Precompiled") return inSteps(precompiled(config.precompiled_charsmap));
  return { of: textNormalizer(config) };
}

/** Those that need no steps. */
function textNormalizer(config: Readonly<Record<string, unknown>>): (text: string) => string {
  switch (config.type) {
    case "Replace": {
      const pattern = patternOf(config.pattern);
      const content = String(config.content ?? "");
      if (!isRecord(config.pattern) || typeof config.pattern.Regex !== "string") {
        return (text) => replaceWithin(text, pattern, content);
      }
      if (probes.some((text) => matchesOf(pattern, text).some(([start, end]) => start === end))) {
        throw new NotKnown("a Replace that puts something between characters, where Python fails");
      }
      return (text) => replaced(text, pattern, content);
    }
    case "Prepend": {
      const prefix = String(config.prepend ?? "");
      return (text) => text === "" ? "" : prefix + text;
    }
    case "Strip": {
      const { strip_left: left = true, strip_right: right = true } = config;
      return (text) => {
        const rest = left ? trimStart(text) : text;
        return right ? trimEnd(rest) : rest;
      };
    }
    case "Lowercase":
      return lowercase;
    case "StripAccents":
      return withoutAccents;
    case "BertNormalizer":
      return bertNormalizer(config);
    case "Nmt":
      return normalizeNmt;
    case "ByteLevel":
      return asByteCharacters;
    default:
      throw new NotKnown(`the normalizer ${String(config.type)}`);
  }
}

/** A text with the matches of a pattern replaced. */
export function replaced(text: string, pattern: RegExp, content: string): string {
  let result = "";
  let last = 0;
  for (const [start, end] of matchesOf(pattern, text)) {
    result += text.slice(last, start) + content;
    checkReplaced(result.length);
    last = end;
  }
  return result + text.slice(last);
}

/**
 * A pattern as `tokenizer.json` has it: a text or a regular expression.
 *
 * @throws {NotKnown} It is neither, or nobody here can read it.
 */
export function patternOf(pattern: unknown): RegExp {
  const { String: text, Regex: regex } = isRecord(pattern) ? pattern : {};
  if (text === "") throw new NotKnown("an empty pattern");
  if (typeof text === "string") return textPattern(text);
  if (typeof regex !== "string") throw new NotKnown("a pattern that is neither text nor Regex");
  try {
    return onigPattern(regex);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    const said = error.message;
    throw new NotKnown(`the regular expression ${regex.slice(0, 80)} (${said})`, { cause: error });
  }
}

/** A list, or what takes its place where there is none. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
