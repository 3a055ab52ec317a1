/** Token ids to text, byte for byte as Hugging Face's `tokenizers` does. */
import { characterOfByte } from "./token_encoder/characters.ts";
import { textWithinTime } from "./watchdog.ts";

/** What `tokenizer.json` says of tokens. */
export interface DecoderFiles {
  /** Text of each token of the vocabulary by its id; gaps are not there. */
  readonly tokens: readonly (string | undefined)[];
  /** Ids that are special. */
  readonly special: ReadonlySet<number>;
  /** The `decoder` of `tokenizer.json`. */
  readonly decoder: unknown;
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

/** The decoder of a tokenizer, or `null` when it has a step that is not known here. */
export function makeTokenDecoder(files: DecoderFiles): TokenDecoder | null {
  const steps = stepsOf(files.decoder);
  if (steps === null) return null;
  if (steps.length === 1 && steps[0]!.type === "ByteLevel") return new ByteLevelDecoder(files);
  if (!steps.every(({ type }) => knownSteps.has(type))) return null;
  return new StepDecoder(files, steps);
}

const knownSteps = new Set(["Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"]);

function stepsOf(decoder: unknown): Step[] | null {
  if (typeof decoder !== "object" || decoder === null) return null;
  const { type, decoders } = decoder as Step;
  return type === "Sequence" ? (decoders as unknown[]).flatMap((one) => stepsOf(one) ?? []) : [
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
  // A sign of byte order in front is text like any other.
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(files: DecoderFiles) {
    this.#files = files;
  }

  decode(ids: ArrayLike<number>, skipSpecial: boolean): string {
    const { special } = this.#files;
    const parts: Uint8Array[] = [];
    let length = 0;
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (skipSpecial && special.has(id)) continue;
      const bytes = this.#bytesOf(id);
      parts.push(bytes);
      length += bytes.length;
    }
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return this.#decoder.decode(all);
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
  readonly #steps: readonly Step[];

  constructor(files: DecoderFiles, steps: readonly Step[]) {
    this.#files = files;
    this.#steps = steps;
  }

  decode(ids: ArrayLike<number>, skipSpecial: boolean): string {
    const { tokens, special } = this.#files;
    let texts: string[] = [];
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      const token = tokens[id];
      if (token !== undefined && !(skipSpecial && special.has(id))) texts.push(token);
    }
    for (const step of this.#steps) texts = applyStep(step, texts);
    return texts.join("");
  }

  borders(): null {
    return null;
  }
}

function applyStep(step: Step, texts: string[]): string[] {
  switch (step.type) {
    case "Replace": {
      const { pattern, content } = step as unknown as {
        pattern: { String?: string; Regex?: string };
        content: string;
      };
      const { String: text, Regex: regex } = pattern;
      if (text !== undefined) return texts.map((one) => one.replaceAll(text, () => content));
      const expression = new RegExp(regex ?? "", "gu");
      return textWithinTime(
        "A pattern of tokenizer.json",
        texts.join("").length,
        () => texts.map((one) => one.replace(expression, () => content)),
      );
    }
    case "ByteFallback":
      return bytesToText(texts);
    case "Fuse":
      return [texts.join("")];
    case "Strip": {
      const { content, start, stop } = step as unknown as {
        content: string;
        start: number;
        stop: number;
      };
      return texts.map((text) => stripped(text, content, start, stop));
    }
    default: {
      const mark = String(step.replacement ?? "▁");
      const isPrepended = step.prepend_scheme !== "never" && step.add_prefix_space !== false;
      return texts.map((text, index) => {
        const spaced = text.replaceAll(mark, " ");
        return index === 0 && isPrepended && spaced.startsWith(" ") ? spaced.slice(1) : spaced;
      });
    }
  }
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
  let from = 0;
  while (from < start && text[from] === content) from++;
  let to = text.length;
  while (text.length - to < stop && to > from && text[to - 1] === content) to--;
  return text.slice(from, to);
}

/** Tokens by their ids, and which are special. */
export function vocabularyOf(
  { model, added_tokens }: Readonly<Record<string, unknown>>,
): { tokens: (string | undefined)[]; special: Set<number> } {
  const tokens: (string | undefined)[] = [];
  const special = new Set<number>();
  const vocab = (model as { vocab?: unknown } | undefined)?.vocab;
  if (Array.isArray(vocab)) { for (const [token] of vocab) tokens.push(String(token)); }
  else for (const [token, id] of Object.entries(vocab ?? {})) tokens[id as number] = token;
  for (const { id, content, special: isSpecial } of (added_tokens ?? []) as AddedToken[]) {
    tokens[id] = content;
    if (isSpecial) special.add(id);
  }
  return { tokens, special };
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special?: boolean;
}
