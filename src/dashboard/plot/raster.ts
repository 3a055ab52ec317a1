import type { Point } from "./chart.ts";

/** White paper for lines with smooth edges. */
export class Raster {
  readonly width: number;
  readonly height: number;
  /** Red, green and blue of each pixel, row by row. */
  readonly pixels: Uint8Array;
  readonly #scale: number;
  /** How much of each pixel the present stroke covers, so that its own crossings are not darker. */
  readonly #cover: Uint8Array;

  /** `scale` pixels are one unit of what is drawn. */
  constructor(width: number, height: number, scale: number) {
    this.width = width;
    this.height = height;
    this.#scale = scale;
    this.pixels = new Uint8Array(width * height * 3).fill(255);
    this.#cover = new Uint8Array(width * height);
  }

  /** Draws lines of one colour, such as `#1f6feb`. */
  stroke(
    lines: readonly (readonly Point[])[],
    { colour, width }: { readonly colour: string; readonly width: number },
  ): void {
    const touched = { left: this.width, top: this.height, right: -1, bottom: -1 };
    const half = width * this.#scale / 2;
    for (const points of lines) {
      for (let i = 0; i < points.length; i++) {
        if (i === 0 && points.length > 1) continue;
        this.#segment(this.#pixel(points[Math.max(0, i - 1)]!), this.#pixel(points[i]!), {
          half,
          touched,
        });
      }
    }
    this.#paint(colour, touched);
  }

  #pixel({ x, y }: Point): Point {
    return { x: x * this.#scale - 0.5, y: y * this.#scale - 0.5 };
  }

  #segment(
    a: Point,
    b: Point,
    { half, touched }: {
      readonly half: number;
      readonly touched: { left: number; top: number; right: number; bottom: number };
    },
  ): void {
    const reach = half + 1;
    const left = Math.max(0, Math.floor(Math.min(a.x, b.x) - reach));
    const right = Math.min(this.width - 1, Math.ceil(Math.max(a.x, b.x) + reach));
    const top = Math.max(0, Math.floor(Math.min(a.y, b.y) - reach));
    const bottom = Math.min(this.height - 1, Math.ceil(Math.max(a.y, b.y) + reach));
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const length = dx * dx + dy * dy;
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const along = length === 0 ? 0 : ((x - a.x) * dx + (y - a.y) * dy) / length;
        const t = Math.max(0, Math.min(1, along));
        const distance = Math.hypot(x - a.x - t * dx, y - a.y - t * dy);
        const cover = Math.round(255 * Math.max(0, Math.min(1, half + 0.5 - distance)));
        const at = y * this.width + x;
        if (cover > this.#cover[at]!) this.#cover[at] = cover;
      }
    }
    touched.left = Math.min(touched.left, left);
    touched.right = Math.max(touched.right, right);
    touched.top = Math.min(touched.top, top);
    touched.bottom = Math.max(touched.bottom, bottom);
  }

  #paint(
    colour: string,
    { left, top, right, bottom }: { left: number; top: number; right: number; bottom: number },
  ): void {
    const rgb = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const at = y * this.width + x;
        const cover = this.#cover[at]! / 255;
        if (cover === 0) continue;
        this.#cover[at] = 0;
        for (let i = 0; i < 3; i++) {
          const before = this.pixels[3 * at + i]!;
          this.pixels[3 * at + i] = Math.round(before + (rgb[i]! - before) * cover);
        }
      }
    }
  }
}
