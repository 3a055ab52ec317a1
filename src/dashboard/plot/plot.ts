import { chartOf, type PlotOptions, type PlotSeries, type Point } from "./chart.ts";
import { pngOf } from "./png.ts";
import { Raster } from "./raster.ts";
import { strokesOf, strokeWidth } from "./stroke_font.ts";

export type { PlotOptions, PlotSeries } from "./chart.ts";

/**
 * Curves as an SVG; values that are no numbers are left out.
 *
 * @example
 * ```ts
 * import { plotSvg } from "@sglang-rl/sglang-rl/dashboard";
 *
 * const svg = plotSvg([{ name: "reward", points: [[0, 0.1], [1, 0.3]] }], { title: "My run" });
 * ```
 */
export function plotSvg(series: readonly PlotSeries[], options: PlotOptions): string {
  const { title, width, height, shapes } = chartOf(series, options);
  const written = shapes.map((shape) => {
    if (shape.kind === "line") {
      // A point alone is a line from itself to itself, which has round ends.
      const drawn = shape.points.length === 1 ? [...shape.points, ...shape.points] : shape.points;
      const points = drawn.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
      return `<polyline fill="none" stroke="${shape.colour}" stroke-width="${shape.width}" ` +
        `stroke-linejoin="round" stroke-linecap="round" points="${points}"/>`;
    }
    const { at, size, anchor, colour } = shape;
    return `<text x="${at.x.toFixed(1)}" y="${at.y.toFixed(1)}" font-size="${size}" ` +
      `text-anchor="${anchor}" fill="${colour}">${escapeXml(shape.text)}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" font-family="sans-serif" role="img" ` +
    `aria-label="${escapeXml(title)}">\n<rect width="100%" height="100%" fill="#fff"/>\n` +
    `${written.join("\n")}\n</svg>\n`;
}

/**
 * The same as a PNG. Letters beyond ASCII lose their accents, and are boxes where there is none like
 * them.
 *
 * @param options `scale` is pixels of the picture for one of the plot. Default 2.
 */
export async function plotPng(
  series: readonly PlotSeries[],
  options: PlotOptions & { readonly scale?: number | undefined },
): Promise<Uint8Array<ArrayBuffer>> {
  const { scale = 2, ...plot } = options;
  const { title, width, height, shapes } = chartOf(series, plot);
  const raster = new Raster(Math.ceil(width * scale), Math.ceil(height * scale), scale);
  for (const shape of shapes) {
    if (shape.kind === "line") {
      raster.stroke([shape.points], shape);
      continue;
    }
    const { text, size, anchor, colour } = shape;
    const share = { start: 0, middle: 0.5, end: 1 }[anchor];
    const x = shape.at.x - share * strokeWidth(text, size);
    const strokes = strokesOf(text, { x, y: shape.at.y, size });
    raster.stroke(strokes.filter((stroke) => !isDot(stroke)), { colour, width: size / 11 });
    // As thick as a line a dot is not seen.
    raster.stroke(strokes.filter(isDot), { colour, width: size / 5.5 });
  }
  return await pngOf(raster, { title });
}

function isDot([first, ...others]: readonly Point[]): boolean {
  return others.every(({ x, y }) => x === first?.x && y === first.y);
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
