/** What a plot consists of, before it is written as SVG or PNG. */
import { checkOptionNames, type OptionNames } from "../../internal/option_names.ts";
import { strokeWidth } from "./stroke_font.ts";

/** A place in pixels, from the upper left. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/** A line or a text. */
export type Shape =
  | {
    readonly kind: "line";
    readonly points: readonly Point[];
    readonly colour: string;
    readonly width: number;
  }
  | {
    readonly kind: "text";
    readonly at: Point;
    readonly text: string;
    readonly size: number;
    readonly anchor: "start" | "middle" | "end";
    readonly colour: string;
  };

/** A plot as shapes. */
export interface Chart {
  readonly title: string;
  readonly width: number;
  readonly height: number;
  readonly shapes: readonly Shape[];
}

/** One curve. */
export interface PlotSeries {
  /** What it is called. */
  readonly name: string;
  /** Its points, by x. */
  readonly points: readonly (readonly [number, number])[];
  /** Curves of one panel share their axes; each panel stands below the one before. Default `""`. */
  readonly panel?: string | undefined;
}

/** Options of a plot. */
export interface PlotOptions {
  /** Above the plot. */
  readonly title: string;
  /** Under the plot. */
  readonly xLabel?: string | undefined;
  /** Pixels. Default 720. */
  readonly width?: number | undefined;
  /** Pixels of each panel. Default 320. */
  readonly height?: number | undefined;
}

const NAMES = {
  title: true,
  xLabel: true,
  width: true,
  height: true,
} as const satisfies OptionNames<PlotOptions>;

const colours = ["#1f6feb", "#b35900", "#1a7f37", "#8250df", "#cf222e"];
const MARGIN = { left: 64, right: 16, top: 44, bottom: 44 };
const TITLE = 26;
const FONT = 11;
/** Thickness of a curve, and of a point that stands alone. */
const CURVE = 1.5;
const POINT = 5;
const LEGEND_LINE = 14;
const LARGEST = 1e300;
const LONGEST_NAME = 60;
const LONGEST_TITLE = 100;

/** Lays curves out; values that are no numbers are left out. */
export function chartOf(series: readonly PlotSeries[], options: PlotOptions): Chart {
  checkOptionNames(options, NAMES, "a plot");
  const { width = 720, height = 320 } = options;
  const title = written(options.title, LONGEST_TITLE);
  const panels = [...new Set(series.map(({ panel = "" }) => panel))];
  if (panels.length === 0) panels.push("");
  const shapes: Shape[] = [
    text(title, { x: MARGIN.left, y: 18 }, { size: 14, anchor: "start", colour: "#1f2328" }),
  ];
  let top = TITLE;
  for (const panel of panels) {
    const inside = series.filter((one) => (one.panel ?? "") === panel);
    const drawn = panelOf(inside, { panel, top, width, height, xLabel: options.xLabel ?? "" });
    shapes.push(...drawn.shapes);
    top = drawn.bottom;
  }
  return { title, width, height: top, shapes };
}

function panelOf(
  series: readonly PlotSeries[],
  { panel, top, width, height, xLabel }: {
    readonly panel: string;
    readonly top: number;
    readonly width: number;
    readonly height: number;
    readonly xLabel: string;
  },
): { readonly shapes: readonly Shape[]; readonly bottom: number } {
  const finite = series.map(({ name, points }, i) => ({
    name: written(name, LONGEST_NAME),
    colour: colours[i % colours.length]!,
    points: points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))
      .map(([x, y]) => [within(x), within(y)] as const),
  }));
  const legend = legendOf(finite, { top, width, panel: written(panel, LONGEST_NAME) });
  const area = {
    left: MARGIN.left,
    top: legend.bottom,
    right: width - MARGIN.right,
    bottom: Math.max(legend.bottom + 80, top + height - MARGIN.bottom - TITLE),
  };
  const all = finite.flatMap(({ points }) => points);
  const xs = rangeOf(all.map(([x]) => x));
  const ys = rangeOf(all.map(([, y]) => y));
  const px = (x: number) => area.left + (x - xs[0]) / (xs[1] - xs[0]) * (area.right - area.left);
  const py = (y: number) => area.bottom - (y - ys[0]) / (ys[1] - ys[0]) * (area.bottom - area.top);
  const grid = ticks(...ys).flatMap((y): Shape[] => [
    line([{ x: area.left, y: py(y) }, { x: area.right, y: py(y) }], "#d0d7de", 1),
    text(short(y), { x: area.left - 6, y: py(y) + 4 }, { anchor: "end" }),
  ]);
  const foot = ticks(...xs).map((x) =>
    text(short(x), { x: px(x), y: area.bottom + 16 }, { anchor: "middle" })
  );
  const curves = finite.map(({ points, colour }) =>
    line(
      thinned(points.map(([x, y]) => ({ x: px(x), y: py(y) }))),
      colour,
      points.length === 1 ? POINT : CURVE,
    )
  );
  const label = text(
    written(xLabel, LONGEST_TITLE),
    { x: (area.left + area.right) / 2, y: area.bottom + 32 },
    { anchor: "middle" },
  );
  return {
    shapes: [...legend.shapes, ...grid, ...foot, label, ...curves],
    bottom: area.bottom + MARGIN.bottom,
  };
}

/** The panel's name and those of its curves, in as many lines as they need. */
function legendOf(
  curves: readonly { readonly name: string; readonly colour: string }[],
  { top, width, panel }: { readonly top: number; readonly width: number; readonly panel: string },
): { readonly shapes: readonly Shape[]; readonly bottom: number } {
  const shapes: Shape[] = [];
  let x = MARGIN.left;
  let y = top + LEGEND_LINE;
  const put = (name: string, colour: string) => {
    const space = strokeWidth(name, FONT) + 16;
    if (x > MARGIN.left && x + space > width) {
      x = MARGIN.left;
      y += LEGEND_LINE;
    }
    shapes.push(text(name, { x, y }, { anchor: "start", colour }));
    x += space;
  };
  if (panel !== "") put(panel, "#1f2328");
  for (const { name, colour } of curves) put(name, colour);
  return { shapes, bottom: y + 12 };
}

/** Of points that fall on one column of pixels: first, lowest, highest and last are all that is seen. */
function thinned(points: readonly Point[]): readonly Point[] {
  const kept: Point[] = [];
  for (let at = 0; at < points.length;) {
    const column = Math.round(points[at]!.x * 2);
    let end = at;
    let low = at;
    let high = at;
    for (; end < points.length && Math.round(points[end]!.x * 2) === column; end++) {
      if (points[end]!.y < points[low]!.y) low = end;
      if (points[end]!.y > points[high]!.y) high = end;
    }
    const seen = [...new Set([at, low, high, end - 1])].sort((a, b) => a - b);
    kept.push(...seen.map((index) => points[index]!));
    at = end;
  }
  return kept;
}

/** Round numbers within a range, about five. */
function ticks(from: number, to: number): number[] {
  const rough = (to - from) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((one) => one >= rough) ?? rough;
  const count = Math.floor((to - from) / step + 1e-9) + 1;
  const first = Math.ceil(from / step - 1e-9) * step;
  return Array.from({ length: count }, (_, i) => first + i * step)
    .filter((value) => Number.isFinite(value) && value <= to + (to - from) * 1e-9);
}

/** The ends of some values, never equal. */
function rangeOf(values: readonly number[]): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  const middle = Math.abs(low) / 2 + Math.abs(high) / 2;
  // So close that no round number lies between.
  if (high - low > Math.max(middle * 1e-12, 1e-300)) return [low, high];
  const around = Math.max(0.5, middle * 1e-3);
  return [low - around, high + around];
}

/** A number whose distance to any other is a number, too. */
function within(value: number): number {
  return Math.max(-LARGEST, Math.min(LARGEST, value));
}

function short(value: number): string {
  return String(Number(value.toPrecision(4)));
}

function line(points: readonly Point[], colour: string, width: number): Shape {
  return { kind: "line", points, colour, width };
}

function text(
  words: string,
  at: Point,
  more: { anchor: "start" | "middle" | "end"; size?: number; colour?: string },
): Shape {
  return { kind: "text", text: words, at, size: FONT, colour: "#1f2328", ...more };
}

/** A name that can be written anywhere: what cannot be seen, or is no part of XML, is a code. */
function written(name: string, longest: number): string {
  const seen = name.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}\ufffe\uffff]/gu,
    (character) => `⟨U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}⟩`,
  );
  const letters = [...seen];
  return letters.length <= longest ? seen : `${letters.slice(0, longest - 1).join("")}…`;
}
