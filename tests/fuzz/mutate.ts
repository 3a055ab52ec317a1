import fc from "fast-check";

/** Values that have made programs fall over. */
const nasty = fc.constantFrom<unknown>(
  null,
  true,
  -1,
  0,
  1.5,
  2 ** 31,
  2 ** 53,
  -(2 ** 63),
  1e308,
  "",
  "\u0000",
  "\ud800",
  "__proto__",
  "constructor",
  "x".repeat(5000),
  [],
  {},
  [[[]]],
  [null],
);
const anyValue = fc.oneof(nasty, fc.jsonValue({ maxDepth: 3 }));

/** A value of JSON with some of its places replaced, left out or doubled. */
export function mutatedJson(base: unknown): fc.Arbitrary<unknown> {
  const paths = placesIn(base);
  const edit = fc.record({
    at: fc.nat(paths.length - 1),
    how: fc.constantFrom("replace", "replace", "remove", "add"),
    value: anyValue,
  });
  return fc.array(edit, { minLength: 0, maxLength: 4 }).map((edits) => {
    let root = structuredClone(base);
    for (const { at, how, value } of edits) {
      root = edited(root, paths[at]!, how, structuredClone(value));
    }
    return root;
  });
}

/** The text of JSON, sometimes cut or with other characters in it. */
export function mutatedJsonText(base: unknown): fc.Arbitrary<string> {
  const text = JSON.stringify(base);
  return fc.oneof(
    mutatedJson(base).map((value) => JSON.stringify(value) ?? "null"),
    mutatedText(text),
    fc.nat(2000).map((depth) => "[".repeat(depth) + "]".repeat(depth)),
  );
}

/** A text with pieces of it, and of `words`, put in, left out and repeated. */
export function mutatedText(base: string, words: readonly string[] = []): fc.Arbitrary<string> {
  const pieces = fc.oneof(
    fc.constantFrom(...words, "\n", " ", '"', "\\", "{", "}", "[", "]", "<", ">", "\u0000", "é"),
    fc.string({ maxLength: 8 }),
    fc.tuple(fc.nat(base.length), fc.nat(40)).map(([at, length]) => base.slice(at, at + length)),
  );
  const edit = fc.record({
    at: fc.nat(),
    cut: fc.nat(20),
    put: pieces,
    times: fc.integer({ min: 1, max: 30 }),
  });
  return fc.array(edit, { maxLength: 5 }).map((edits) =>
    edits.reduce((text, { at, cut, put, times }) => {
      const place = at % (text.length + 1);
      return text.slice(0, place) + put.repeat(times) + text.slice(place + cut);
    }, base)
  );
}

/** Bytes with some changed, put in and left out. */
export function mutatedBytes(base: Uint8Array): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  const edit = fc.record({
    at: fc.nat(),
    cut: fc.nat(12),
    put: fc.uint8Array({ maxLength: 12 }),
  });
  return fc.array(edit, { maxLength: 5 }).map((edits) =>
    edits.reduce((bytes, { at, cut, put }) => {
      const place = at % (bytes.length + 1);
      return Uint8Array.from([...bytes.slice(0, place), ...put, ...bytes.slice(place + cut)]);
    }, Uint8Array.from(base))
  );
}

type Path = readonly (string | number)[];

function placesIn(value: unknown, path: Path = []): Path[] {
  if (typeof value !== "object" || value === null) return [path];
  return [
    path,
    ...Object.entries(value).flatMap(([key, inner]) => placesIn(inner, [...path, key])),
  ];
}

function edited(root: unknown, path: Path, how: string, value: unknown): unknown {
  if (path.length === 0) return how === "replace" ? value : root;
  let holder = root;
  for (const key of path.slice(0, -1)) {
    if (typeof holder !== "object" || holder === null) return root;
    holder = (holder as Record<string | number, unknown>)[key];
  }
  if (typeof holder !== "object" || holder === null) return root;
  const target = holder as Record<string | number, unknown>;
  const key = path.at(-1)!;
  if (how === "remove") delete target[key];
  else if (how === "add") target[`${key}2`] = value;
  else target[key] = value;
  return root;
}
