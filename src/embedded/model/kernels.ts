/**
 * The inner loops of the forward pass. Matrices are row-major. Each output is summed in the order
 * of its inputs whatever else is in the batch, so a request gets the same bits alone as in company.
 */

/** `y[r, o] = bias[o] + sum over i of x[r, i] * w[o, i]`, for `rows` rows of `x`. */
export function linear(
  y: Float32Array,
  x: Float32Array,
  layer: { weight: Float32Array; bias: Float32Array | null },
  size: { rows: number; inputs: number; outputs: number },
): void {
  const { rows, inputs, outputs } = size;
  const { weight, bias } = layer;
  let row = 0;
  // Four rows at once: each weight is read once for four requests.
  for (; row + 4 <= rows; row += 4) {
    const x0 = row * inputs, x1 = x0 + inputs, x2 = x1 + inputs, x3 = x2 + inputs;
    const y0 = row * outputs, y1 = y0 + outputs, y2 = y1 + outputs, y3 = y2 + outputs;
    for (let o = 0, w = 0; o < outputs; o++) {
      const start = bias === null ? 0 : bias[o]!;
      let s0 = start, s1 = start, s2 = start, s3 = start;
      for (let i = 0; i < inputs; i++, w++) {
        const value = weight[w]!;
        s0 += value * x[x0 + i]!;
        s1 += value * x[x1 + i]!;
        s2 += value * x[x2 + i]!;
        s3 += value * x[x3 + i]!;
      }
      y[y0 + o] = s0;
      y[y1 + o] = s1;
      y[y2 + o] = s2;
      y[y3 + o] = s3;
    }
  }
  for (; row < rows; row++) {
    const xs = row * inputs, ys = row * outputs;
    for (let o = 0, w = 0; o < outputs; o++) {
      let sum = bias === null ? 0 : bias[o]!;
      for (let i = 0; i < inputs; i++, w++) sum += weight[w]! * x[xs + i]!;
      y[ys + o] = sum;
    }
  }
}

/** `y += scaling * B (A x)` for `rows` rows from `from` on; `a` is `(rank, inputs)`, `b` `(outputs, rank)`. */
export function addLora(
  y: Float32Array,
  x: Float32Array,
  pair: { readonly a: Float32Array; readonly b: Float32Array },
  size: {
    readonly from: number;
    readonly rows: number;
    readonly rank: number;
    readonly scaling: number;
  },
): void {
  const { from, rows, rank, scaling } = size;
  const inputs = pair.a.length / rank, outputs = pair.b.length / rank;
  const low = new Float32Array(rank);
  for (let row = from; row < from + rows; row++) {
    for (let k = 0, w = 0; k < rank; k++) {
      let sum = 0;
      for (let i = 0, at = row * inputs; i < inputs; i++, w++) sum += pair.a[w]! * x[at + i]!;
      low[k] = sum;
    }
    for (let o = 0, w = 0, at = row * outputs; o < outputs; o++) {
      let sum = 0;
      for (let k = 0; k < rank; k++, w++) sum += pair.b[w]! * low[k]!;
      y[at + o]! += scaling * sum;
    }
  }
}

/** Root mean square norm of each row of `size` values: `x / sqrt(mean(x²) + eps) * weight`. */
export function rmsNorm(
  y: Float32Array,
  x: Float32Array,
  weight: Float32Array,
  options: { rows: number; size: number; eps: number },
): void {
  const { rows, size, eps } = options;
  for (let row = 0, at = 0; row < rows; row++, at += size) {
    let sum = 0;
    for (let i = 0; i < size; i++) sum += x[at + i]! * x[at + i]!;
    const scale = 1 / Math.sqrt(sum / size + eps);
    for (let i = 0; i < size; i++) y[at + i] = x[at + i]! * scale * weight[i]!;
  }
}

/** `x += y`, for the first `length` values. */
export function addInto(x: Float32Array, y: Float32Array, length: number): void {
  for (let i = 0; i < length; i++) x[i]! += y[i]!;
}

/** `gate = silu(gate) * up`, for the first `length` values. */
export function swiGlu(gate: Float32Array, up: Float32Array, length: number): void {
  for (let i = 0; i < length; i++) {
    const value = gate[i]!;
    gate[i] = value / (1 + Math.exp(-value)) * up[i]!;
  }
}

/** Cosines and sines of rotary positions, made as far as they are asked for. */
export class RotaryTable {
  readonly #half: number;
  readonly #frequencies: Float64Array;
  #cos = new Float32Array(0);
  #sin = new Float32Array(0);
  #positions = 0;

  constructor(headDim: number, theta: number) {
    this.#half = headDim / 2;
    this.#frequencies = Float64Array.from(
      { length: this.#half },
      (_, i) => theta ** (-2 * i / headDim),
    );
  }

  /** Rotates every head of one row in place: halves of a head pair up, as Hugging Face does. */
  rotate(x: Float32Array, at: number, options: { heads: number; position: number }): void {
    const { heads, position } = options;
    if (position >= this.#positions) this.#grow(position + 1);
    const half = this.#half;
    const table = position * half;
    for (let head = 0, h = at; head < heads; head++, h += 2 * half) {
      for (let i = 0; i < half; i++) {
        const cos = this.#cos[table + i]!, sin = this.#sin[table + i]!;
        const a = x[h + i]!, b = x[h + half + i]!;
        x[h + i] = a * cos - b * sin;
        x[h + half + i] = b * cos + a * sin;
      }
    }
  }

  #grow(needed: number): void {
    const positions = Math.max(needed, 2 * this.#positions, 256);
    const half = this.#half;
    this.#cos = new Float32Array(positions * half);
    this.#sin = new Float32Array(positions * half);
    for (let p = 0, at = 0; p < positions; p++) {
      for (let i = 0; i < half; i++, at++) {
        const angle = p * this.#frequencies[i]!;
        this.#cos[at] = Math.cos(angle);
        this.#sin[at] = Math.sin(angle);
      }
    }
    this.#positions = positions;
  }
}
