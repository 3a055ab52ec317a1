import { TokenDriftError } from "../errors.ts";
import { isConcatenation } from "./padding.ts";
import type { Span } from "./templates/spans.ts";
import { tokensBeyond } from "./token_borders.ts";
import type { EncodeOptions, Tokenizer } from "./tokenizer.ts";

/** Token ids of a text and which of them lie in the given stretches of it. */
export interface MaskedTokens {
  /** Ids of the whole text. */
  readonly ids: Int32Array;
  /** 1 on tokens that lie in a stretch, wholly or in part. */
  readonly mask: Uint8Array;
}

/**
 * Tokenises a text and marks the tokens of some stretches: by the borders of the tokens where the
 * tokenizer tells them. Else the text is tokenised in pieces cut at the borders, and if the pieces give
 * the ids of the whole, the mask is exact; where a token spans a border, the ids are decoded in parts.
 *
 * @throws {TokenDriftError} The ids do not decode to the text, so no mask would be exact.
 */
export async function encodeWithMask(
  text: string,
  spans: readonly Span[],
  options: { tokenizer: Tokenizer } & EncodeOptions,
): Promise<MaskedTokens> {
  const { tokenizer, signal } = options;
  const ids = await tokenizer.encode(text, { signal });
  const mask = new Uint8Array(ids.length);
  if (spans.length === 0) return { ids, mask };
  const borders = tokenizer.borders?.(ids) ?? null;
  if (borders !== null) {
    const places = placesIn(await tokenizer.decode(ids, { signal }), text, spans);
    if (places !== null) return { ids, mask: maskByBorders(borders, places) };
  }
  const pieces = await encodePieces(text, spans, options);
  if (isConcatenation(pieces.map((piece) => piece.ids), ids)) {
    let at = 0;
    for (const { ids: part, isInside } of pieces) {
      if (isInside) mask.fill(1, at, at + part.length);
      at += part.length;
    }
    return { ids, mask };
  }
  return { ids, mask: await maskByPrefixes(ids, text, { tokenizer, spans, signal }) };
}

/**
 * Marks the tokens of some stretches in given ids of a text. Ids that do not decode to the text give
 * an empty mask where there are no stretches, and an error else.
 *
 * @throws {TokenDriftError} The ids do not decode to the text, so no mask would be exact.
 */
export async function maskOf(
  ids: Int32Array,
  text: string,
  options: { tokenizer: Tokenizer; spans: readonly Span[]; signal?: AbortSignal | undefined },
): Promise<Uint8Array> {
  if (options.spans.length === 0) return new Uint8Array(ids.length);
  return await maskByPrefixes(ids, text, options);
}

async function maskByPrefixes(
  ids: Int32Array,
  text: string,
  options: { tokenizer: Tokenizer; spans: readonly Span[]; signal?: AbortSignal | undefined },
): Promise<Uint8Array> {
  const { tokenizer, spans, signal } = options;
  const decoded = await tokenizer.decode(ids, { signal });
  const stretches = placesIn(decoded, text, spans);
  if (stretches === null) throw drift(text, decoded);
  const borders = tokenizer.borders?.(ids) ?? null;
  if (borders !== null) return maskByBorders(borders, stretches);
  const prefix = async (count: number) =>
    (await tokenizer.decode(ids.subarray(0, count), { signal })).length;
  const mask = new Uint8Array(ids.length);
  const places = stretches.flatMap(({ start, end }) => [start, end - 1]);
  const found = await tokensBeyond(ids, decoded, { places, tokenizer, signal });
  for (const [index, { start, end }] of stretches.entries()) {
    const first = found?.[2 * index] ?? await firstBeyond(ids.length, start, prefix);
    const last = found?.[2 * index + 1] ?? await firstBeyond(ids.length, end - 1, prefix);
    mask.fill(1, first - 1, last);
  }
  return mask;
}

/**
 * The stretches of a text in what its ids decode to: the same text, or, for tokenizers that normalise
 * it, the normalised one. `null` where it is another text.
 */
function placesIn(decoded: string, given: string, spans: readonly Span[]): readonly Span[] | null {
  if (decoded === given) return spans;
  // SentencePiece's sign for a space is a space too where a text has it.
  const spaced = given.replaceAll("\u2581", " ");
  if (decoded === spaced) return spans;
  return placesNormalized(decoded, given, spans) ?? placesNormalized(decoded, spaced, spans) ??
    placesAmongSpaces(decoded, spaced, spans);
}

/** The stretches in a text that a tokenizer normalised; `null` where it is another text. */
function placesNormalized(
  decoded: string,
  text: string,
  spans: readonly Span[],
): readonly Span[] | null {
  for (const form of ["NFC", "NFKC", "NFD", "NFKD"]) {
    if (text.normalize(form) !== decoded) continue;
    const cuts = [0, ...spans.flatMap(({ start, end }) => [start, end]), text.length];
    const pieces = cuts.slice(1).map((end, index) => text.slice(cuts[index]!, end).normalize(form));
    // Characters on both sides of a border may belong together; then nobody can say where it is.
    if (pieces.join("") !== decoded) return null;
    const places: Span[] = [];
    let at = 0;
    pieces.forEach((piece, index) => {
      if (index % 2 === 1) places.push({ start: at, end: at + piece.length });
      at += piece.length;
    });
    return places;
  }
  return null;
}

/**
 * The stretches where a tokenizer puts a space before a text that stands behind a special token, as
 * Llama 2's does and those made of it: it belongs to no stretch. `null` where more is different.
 */
function placesAmongSpaces(
  decoded: string,
  text: string,
  spans: readonly Span[],
): readonly Span[] | null {
  const places = new Int32Array(text.length + 1);
  let at = 0;
  for (let place = 0; place <= text.length; place++) {
    if (decoded[at] === text[place]) {
      places[place] = at++;
      continue;
    }
    if (decoded[at] !== " ") return null;
    // The space stands before those that the text has there.
    for (let i = place - 1; i >= 0 && text[i] === " "; i--) places[i]!++;
    at++;
    if (decoded[at] !== text[place]) return null;
    places[place] = at++;
  }
  if (at !== decoded.length + 1) return null;
  return spans.map(({ start, end }) => ({
    start: places[start]!,
    end: end > start ? places[end - 1]! + 1 : places[start]!,
  }));
}

/** One pass over tokens and stretches: a token that overlaps a stretch is marked. */
function maskByBorders(borders: Int32Array, spans: readonly Span[]): Uint8Array {
  const mask = new Uint8Array(borders.length / 2);
  let next = 0;
  for (let token = 0; token < mask.length; token++) {
    const start = borders[2 * token]!;
    while (next < spans.length && spans[next]!.end <= start) next++;
    if (next === spans.length) break;
    if (borders[2 * token + 1]! > spans[next]!.start) mask[token] = 1;
  }
  return mask;
}

async function encodePieces(
  text: string,
  spans: readonly Span[],
  { tokenizer, signal }: { tokenizer: Tokenizer } & EncodeOptions,
): Promise<{ ids: Int32Array; isInside: boolean }[]> {
  const borders = spans.flatMap(({ start, end }) => [start, end]);
  const cuts = [0, ...borders, text.length];
  const pieces = cuts.slice(1).map((end, index) => text.slice(cuts[index]!, end));
  return await Promise.all(pieces.map(async (piece, index) => ({
    ids: piece === "" ? new Int32Array() : await tokenizer.encode(piece, { signal }),
    isInside: index % 2 === 1,
  })));
}

/** The smallest number of tokens whose text is longer than `length`. */
async function firstBeyond(
  count: number,
  length: number,
  prefixLength: (count: number) => Promise<number>,
): Promise<number> {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (await prefixLength(middle) > length) high = middle;
    else low = middle + 1;
  }
  return low;
}

function drift(text: string, decoded: string): TokenDriftError {
  let index = 0;
  while (index < text.length && text[index] === decoded[index]) index++;
  return new TokenDriftError(
    `The tokenizer does not give the text back: from character ${index} on it is ` +
      `${JSON.stringify(text.slice(index, index + 20))}, decoded ` +
      `${
        JSON.stringify(decoded.slice(index, index + 20))
      }. Assistant tokens cannot be told exactly`,
    { index },
  );
}
