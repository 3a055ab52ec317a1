/** Token ids to text, byte for byte as Hugging Face's `tokenizers` does. */
import { isRecord } from "./json.ts";
import { characterOfByte } from "./token_encoder/characters.ts";
import {
  listOf,
  makeNormalizer,
  patternOf,
  replaced as replacedMatches,
} from "./token_encoder/normalizers.ts";
import { NotKnown } from "./token_encoder/not_known.ts";
import { replaceWithin } from "./replaced.ts";
import { type TextLimits, textWithinTime } from "./watchdog.ts";

/** What `tokenizer.json` says of tokens. */
export interface DecoderFiles {
  /** Text of each token of the vocabulary by its id; gaps are not there. */
  readonly tokens: readonly (string | undefined)[];
  /** Ids that are special. */
  readonly special: ReadonlySet<number>;
  /** The `decoder` of `tokenizer.json`. */
  readonly decoder: unknown;
  /** What the decoder may do to one text. */
  readonly limits?: TextLimits | undefined;
}

/** Decodes ids. */
export interface TokenDecoder {
  /** Text of ids; ids that are not in the vocabulary are left out. */
  decode(ids: ArrayLike<number>, skipSpecial: boolean): string;
  /**
   * Where each token begins and ends in the decoded text, in UTF-16 units: `[start, end]` one after
   * the other. A token that holds a part of a character has all of it. `null` where it cannot be told.
   */
  borders(ids: ArrayLike<number>): Int32Array | null;
}

interface Step {
  readonly type: string;
  readonly [key: string]: unknown;
}

/**
 * The decoder of a tokenizer. Without one, tokens stand with spaces between them, as in Python.
 *
 * @throws {NotKnown} It has a step that is not known here, which the message names.
 */
export function makeTokenDecoder(files: DecoderFiles): TokenDecoder {
  const steps = stepsOf(files.decoder);
  if (steps.length === 1 && steps[0]!.type === "ByteLevel") return new ByteLevelDecoder(files);
  return new StepDecoder(files, steps.map(makeStep));
}

function stepsOf(decoder: unknown): Step[] {
  if (decoder === null || decoder === undefined) return [];
  if (!isRecord(decoder)) throw new NotKnown("a decoder that is no object");
  return decoder.type === "Sequence" ? listOf(decoder.decoders).flatMap(stepsOf) : [
    decoder as Step,
  ];
}

const utf8 = new TextEncoder();

/** GPT-2's way to write bytes as characters. */
const characterBytes: ReadonlyMap<string, number> = new Map(
  characterOfByte.map((character, byte) => [character, byte]),
);

class ByteLevelDecoder implements TokenDecoder {
  readonly #files: DecoderFiles;
  readonly #bytes: (Uint8Array | undefined)[] = [];

  constructor(files: DecoderFiles) {
    this.#files = files;
  }

  decode(ids: ArrayLike<number>, skipSpecial: boolean): string {
    const { special } = this.#files;
    const parts: Uint8Array[] = [];
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (skipSpecial && special.has(id)) continue;
      parts.push(this.#bytesOf(id));
    }
    return lossy.decode(joined(parts));
  }

  borders(ids: ArrayLike<number>): Int32Array | null {
    const borders = new Int32Array(2 * ids.length);
    // Units up to here, the units of the last character, and the bytes of it that are missing.
    let units = 0;
    let width = 0;
    let missing = 0;
    for (let i = 0; i < ids.length; i++) {
      borders[2 * i] = missing > 0 ? units - width : units;
      for (const byte of this.#bytesOf(ids[i]!)) {
        if (missing > 0) {
          // Broken text has no characters to count.
          if (byte >> 6 !== 2) return null;
          missing--;
          continue;
        }
        missing = byte < 0x80
          ? 0
          : byte >> 5 === 6
          ? 1
          : byte >> 4 === 14
          ? 2
          : byte >> 3 === 30
          ? 3
          : -1;
        if (missing < 0) return null;
        width = missing === 3 ? 2 : 1;
        units += width;
      }
      borders[2 * i + 1] = units;
    }
    return missing > 0 ? null : borders;
  }

  #bytesOf(id: number): Uint8Array {
    let bytes = this.#bytes[id];
    if (bytes === undefined) {
      bytes = toBytes(this.#files.tokens[id] ?? "");
      this.#bytes[id] = bytes;
    }
    return bytes;
  }
}

/** Bytes of a token; one that is written otherwise, as added tokens are, is its own text. */
function toBytes(token: string): Uint8Array {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = characterBytes.get(token[i]!);
    if (byte === undefined) return utf8.encode(token);
    bytes[i] = byte;
  }
  return bytes;
}

class StepDecoder implements TokenDecoder {
  readonly #files: DecoderFiles;
  readonly #steps: readonly Change[];
  readonly #glue: string;

  constructor(files: DecoderFiles, steps: readonly Change[]) {
    this.#files = files;
    this.#steps = steps;
    this.#glue = files.decoder === null || files.decoder === undefined ? " " : "";
  }

  decode(ids: ArrayLike<number>, skipSpecial: boolean): string {
    const { tokens, special } = this.#files;
    let texts: string[] = [];
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      const token = tokens[id];
      if (token !== undefined && !(skipSpecial && special.has(id))) texts.push(token);
    }
    const characters = texts.reduce((sum, text) => sum + text.length, 0);
    return textWithinTime("The decoder of tokenizer.json", characters, () => {
      for (const step of this.#steps) texts = step(texts);
      return texts.join(this.#glue);
    }, this.#files.limits);
  }

  borders(): null {
    return null;
  }
}

/** What a step makes of the texts so far. */
type Change = (texts: string[]) => string[];

// A sign of byte order in front is text like any other.
const lossy = new TextDecoder("utf-8", { ignoreBOM: true });

function makeStep(step: Step): Change {
  switch (step.type) {
    case "ByteLevel":
      return (texts) => [lossy.decode(joined(texts.map(toBytes)))];
    case "Replace":
      return replacing(step);
    case "ByteFallback":
      return bytesToText;
    case "Fuse":
      return (texts) => [texts.join("")];
    case "Strip": {
      const { content, start, stop } = step;
      return (texts) =>
        texts.map((text) => stripped(text, String(content), Number(start), Number(stop)));
    }
    case "Metaspace":
      return spacing(step);
    case "WordPiece": {
      const prefix = String(step.prefix ?? "##");
      const clean = step.cleanup === false ? (text: string) => text : cleaned;
      return (texts) =>
        texts.map((text, index) =>
          clean(
            index === 0 ? text : text.startsWith(prefix) ? text.slice(prefix.length) : ` ${text}`,
          )
        );
    }
    case "BPEDecoder": {
      const suffix = String(step.suffix ?? "</w>");
      return (texts) =>
        texts.map((text, index) => replaced(text, suffix, index === texts.length - 1 ? "" : " "));
    }
    case "CTC":
      return sounding(step);
    default:
      throw new NotKnown(`the decoder ${String(step.type)}`);
  }
}

function replacing({ pattern, content }: Step): Change {
  const by = String(content ?? "");
  const expression = patternOf(pattern);
  const { String: text } = isRecord(pattern) ? pattern : {};
  if (typeof text === "string") {
    return (texts) => texts.map((one) => replaceWithin(one, text, by));
  }
  return (texts) => texts.map((one) => replacedMatches(one, expression, by));
}

function spacing(step: Step): Change {
  const mark = String(step.replacement ?? "▁");
  const isPrepended = step.prepend_scheme !== "never" && step.add_prefix_space !== false;
  return (texts) =>
    texts.map((text, index) => text.replaceAll(mark, index === 0 && isPrepended ? "" : " "));
}

function sounding(step: Step): Change {
  const pad = String(step.pad_token ?? "<pad>");
  const border = String(step.word_delimiter_token ?? "|");
  const cleans = step.cleanup !== false;
  return (texts) =>
    texts.filter((text, index) => text !== texts[index - 1])
      .map((text) => replaced(text, pad, ""))
      .map((text) => cleans ? replaced(cleaned(text), border, " ") : text)
      .filter((text) => text !== "");
}

const shortened = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
] as const;

/** A text without the spaces that English does not write. */
function cleaned(text: string): string {
  return shortened.reduce((given, [from, to]) => given.replaceAll(from, to), text);
}

/** As Rust replaces: an empty text stands between all characters. */
function replaced(text: string, from: string, to: string): string {
  return from === ""
    ? [...text].map((one) => to + one).join("") + to
    : text.replaceAll(from, () => to);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const byteToken = /^<0x([\da-fA-F]{2})>$/;

/** Runs of byte tokens as text; a run that is not UTF-8 is one replacement character for each byte. */
function bytesToText(texts: readonly string[]): string[] {
  const result: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length === 0) return;
    try {
      result.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      for (const _ of bytes) result.push("\ufffd");
    }
    bytes = [];
  };
  for (const text of texts) {
    const byte = text.length === 6 ? byteToken.exec(text) : null;
    if (byte !== null) bytes.push(parseInt(byte[1]!, 16));
    else {
      flush();
      result.push(text);
    }
  }
  flush();
  return result;
}

function stripped(text: string, content: string, start: number, stop: number): string {
  const width = content.length;
  let from = 0;
  for (let cut = 0; cut < start && width > 0 && text.startsWith(content, from); cut++) {
    from += width;
  }
  let to = text.length;
  for (let cut = 0; cut < stop && to - width >= from && text.endsWith(content, to); cut++) {
    to -= width;
  }
  return text.slice(from, to);
}

/**
 * Tokens by their ids, and which are special. An added token that is looked for in normalized texts is
 * told as it looks there, and one that looks otherwise than it is written is not special: as in Python.
 */
export function vocabularyOf(
  { model, added_tokens, normalizer }: Readonly<Record<string, unknown>>,
): { tokens: (string | undefined)[]; special: Set<number> } {
  const tokens: (string | undefined)[] = [];
  const special = new Set<number>();
  const normalize = makeNormalizer(normalizer);
  const vocab = (model as { vocab?: unknown } | undefined)?.vocab;
  if (Array.isArray(vocab)) { for (const [token] of vocab) tokens.push(String(token)); }
  else if (isRecord(vocab)) {
    for (const token of Object.keys(vocab)) tokens[vocab[token] as number] = token;
  }
  const added = (added_tokens ?? []) as AddedToken[];
  const names = new Set(added.filter((one) => one.special).map(({ content }) => content));
  for (const { id, content, normalized } of added) {
    const text = normalized ? normalize.of(content) : content;
    tokens[id] = text;
    if (names.has(text)) special.add(id);
  }
  return { tokens, special };
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
  readonly normalized?: boolean;
}
