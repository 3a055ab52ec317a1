/** One curve. */
export interface PlotSeries {
  /** What it is called. */
  readonly name: string;
  /** Its points, by x. */
  readonly points: readonly (readonly [number, number])[];
}

/** Options of {@linkcode plotSvg}. */
export interface PlotOptions {
  /** Above the plot. */
  readonly title: string;
  /** Under the plot. */
  readonly xLabel?: string | undefined;
  /** Pixels. Default 720. */
  readonly width?: number | undefined;
  /** Pixels. Default 320. */
  readonly height?: number | undefined;
}

const colours = ["#1f6feb", "#b35900", "#1a7f37", "#8250df", "#cf222e"];
const MARGIN = { left: 64, right: 16, top: 40, bottom: 44 };

/** Curves as an SVG, each with a label; values that are no numbers are left out. */
export function plotSvg(series: readonly PlotSeries[], options: PlotOptions): string {
  const { title, xLabel = "", width = 720, height = 320 } = options;
  const finite = series.map(({ name, points }) => ({
    name,
    points: points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)),
  }));
  const all = finite.flatMap(({ points }) => points);
  const [x0, x1] = range(all.map(([x]) => x));
  const [y0, y1] = range(all.map(([, y]) => y));
  const inner = {
    width: width - MARGIN.left - MARGIN.right,
    height: height - MARGIN.top - MARGIN.bottom,
  };
  const px = (x: number) => MARGIN.left + (x - x0) / (x1 - x0) * inner.width;
  const py = (y: number) => MARGIN.top + inner.height - (y - y0) / (y1 - y0) * inner.height;
  const ticks = (from: number, to: number) =>
    [0, 0.25, 0.5, 0.75, 1].map((t) => from + t * (to - from));
  const grid = ticks(y0, y1).map((y) =>
    `<line x1="${MARGIN.left}" x2="${width - MARGIN.right}" y1="${py(y).toFixed(1)}" y2="${
      py(y).toFixed(1)
    }" stroke="#d0d7de"/><text x="${MARGIN.left - 6}" y="${
      (py(y) + 4).toFixed(1)
    }" text-anchor="end">${short(y)}</text>`
  );
  const foot = ticks(x0, x1).map((x) =>
    `<text x="${px(x).toFixed(1)}" y="${height - MARGIN.bottom + 18}" text-anchor="middle">${
      short(x)
    }</text>`
  );
  const lines = finite.map(({ name, points }, i) => {
    const colour = colours[i % colours.length]!;
    const path = points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" ");
    return `<polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${path}"/>` +
      `<text x="${MARGIN.left + 8 + i * 140}" y="${MARGIN.top - 8}" fill="${colour}">${
        escapeXml(name)
      }</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11" role="img" ` +
    `aria-label="${escapeXml(title)}">\n<rect width="100%" height="100%" fill="#fff"/>\n` +
    `<text x="${MARGIN.left}" y="18" font-size="14">${escapeXml(title)}</text>\n` +
    `${grid.join("\n")}\n${foot.join("\n")}\n` +
    `<text x="${MARGIN.left + inner.width / 2}" y="${height - 6}" text-anchor="middle">${
      escapeXml(xLabel)
    }</text>\n${lines.join("\n")}\n</svg>\n`;
}

/** The ends of some values, never equal. */
function range(values: readonly number[]): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
