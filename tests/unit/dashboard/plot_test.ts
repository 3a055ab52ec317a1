import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { crc32, inflateSync } from "node:zlib";
import fc from "fast-check";
import { plotPng, plotSvg } from "../../../src/dashboard/mod.ts";
import { strokesOf } from "../../../src/dashboard/plot/stroke_font.ts";

/** A PNG as others read it: sizes, checksums and pixels. */
function readPng(bytes: Uint8Array) {
  const buffer = Buffer.from(bytes);
  assert.deepEqual([...buffer.subarray(0, 8)], [137, 80, 78, 71, 13, 10, 26, 10]);
  const chunks = new Map<string, Buffer>();
  for (let at = 8; at < buffer.length;) {
    const length = buffer.readUInt32BE(at);
    const body = buffer.subarray(at + 4, at + 8 + length);
    assert.equal(buffer.readUInt32BE(at + 8 + length), crc32(body));
    chunks.set(body.toString("latin1", 0, 4), body.subarray(4));
    at += 12 + length;
  }
  assert.deepEqual([...chunks.keys()], ["IHDR", "iTXt", "IDAT", "IEND"]);
  const [width, height] = [0, 4].map((at) => chunks.get("IHDR")!.readUInt32BE(at));
  const rows = inflateSync(chunks.get("IDAT")!);
  assert.equal(rows.length, height! * (1 + 3 * width!));
  return {
    width: width!,
    height: height!,
    /** Colour of a pixel, such as `1f6feb`. */
    at: (x: number, y: number) => {
      const from = y * (1 + 3 * width!) + 1 + 3 * x;
      return rows.subarray(from, from + 3).toString("hex");
    },
  };
}

const aNumber = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(0, 1e308, -1e308, 5e-324));
const aSeries = fc.record({
  name: fc.string({ unit: "binary" }),
  points: fc.array(fc.tuple(aNumber, aNumber), { maxLength: 20 }),
  panel: fc.constantFrom("", "reward", "mismatch"),
});

Deno.test("whatever the values and names are, the SVG is well-formed and has each curve once", () => {
  fc.assert(
    fc.property(
      fc.array(aSeries, { maxLength: 6 }),
      fc.string({ unit: "binary" }),
      (series, title) => {
        const svg = plotSvg(series, { title, xLabel: title });
        assert.doesNotMatch(svg, /NaN|Infinity/);
        // Characters that XML does not have, and that nobody would see.
        assert.doesNotMatch(svg.replaceAll("\n", ""), /[\p{C}\ufffe\uffff]/u);
        const rest = svg.replaceAll(
          /<\/?(svg|rect|polyline|text)( [a-zA-Z:-]+="[^"<]*")*\/?>/g,
          "",
        );
        assert.doesNotMatch(rest, /<|&(?!amp;|lt;|quot;)/);
        const curves = [...svg.matchAll(/<polyline [^>]*stroke-width="(?:1.5|5)"/g)];
        assert.equal(curves.length, series.length);
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("a PNG is one that others read, for any values and names", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(aSeries, { maxLength: 3 }), fc.string(), async (series, title) => {
      const options = { title, width: 200, height: 120 };
      const { width, height } = readPng(await plotPng(series, { ...options, scale: 1 }));
      const [, svgHeight] = /height="([\d.]+)"/.exec(plotSvg(series, options))!;
      assert.deepEqual([width, height], [200, Math.ceil(Number(svgHeight))]);
    }),
    { numRuns: 30 },
  );
});

Deno.test("the curve of a PNG is where that of the SVG is", async () => {
  const points = Array.from({ length: 50 }, (_, x) => [x, Math.sin(x / 8)] as const);
  const series = [{ name: "sine", points }];
  const picture = readPng(await plotPng(series, { title: "A sine", scale: 2 }));
  const [, drawn] = /points="([^"]+)"[^/]*\/>\n<\/svg>/.exec(plotSvg(series, { title: "A sine" }))!;
  for (const place of drawn!.split(" ")) {
    const [x, y] = place.split(",").map(Number);
    assert.equal(picture.at(Math.round(x! * 2 - 0.5), Math.round(y! * 2 - 0.5)), "1f6feb", place);
  }
  assert.equal(picture.at(picture.width - 1, picture.height - 1), "ffffff");
});

Deno.test("a curve of a million points is drawn by what can be seen of it, its peak among that", () => {
  const points = Array.from(
    { length: 1_000_000 },
    (_, x) => [x, x === 654_321 ? 1000 : x % 7] as const,
  );
  const svg = plotSvg([{ name: "long", points }], { title: "" });
  assert.ok(svg.length < 200_000, `${svg.length} characters`);
  const [, drawn] = /points="([^"]+)"[^/]*\/>\n<\/svg>/.exec(svg)!;
  const ys = drawn!.split(" ").map((place) => Number(place.split(",")[1]));
  assert.ok(ys.filter((y) => y < 120).length >= 1, "the peak is drawn");
});

Deno.test("each character of ASCII has strokes of its own within its place", () => {
  const seen = new Set<string>();
  for (let code = 33; code < 127; code++) {
    const strokes = strokesOf(String.fromCharCode(code), { x: 0, y: 0, size: 10 });
    assert.ok(strokes.length > 0);
    for (const { x, y } of strokes.flat()) assert.ok(x >= 0 && x < 6 && y > -7 && y < 4, `${code}`);
    seen.add(JSON.stringify(strokes));
  }
  assert.equal(seen.size, 94);
});

Deno.test("a dot of a text and a point that stands alone can be seen", async () => {
  const count = async (
    title: string,
    points: [number, number][],
    isIt: (rgb: string) => boolean,
  ) => {
    const { width, height, at } = readPng(
      await plotPng([{ name: "", points }], { title, scale: 1 }),
    );
    let found = 0;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) if (isIt(at(x, y))) found++;
    }
    return found;
  };
  const isDark = (rgb: string) => rgb.match(/../g)!.some((one) => parseInt(one, 16) < 128);
  assert.ok(await count("0.5", [], isDark) - await count("0 5", [], isDark) >= 3);
  assert.ok(await count("", [[1, 1]], (rgb) => rgb === "1f6feb") >= 9);
});
