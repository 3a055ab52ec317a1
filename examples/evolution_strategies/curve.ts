/** Reward curves for the terminal and as SVG. */

const BARS = "▁▂▃▄▅▆▇█";

/** A line of bars, lowest to highest value. */
export function sparkline(values: readonly number[]): string {
  const lowest = Math.min(...values);
  const spread = Math.max(...values) - lowest || 1;
  return values
    .map((value) => BARS[Math.round((value - lowest) / spread * (BARS.length - 1))])
    .join("");
}

/** Mean of the first and of the last tenth, at least one value each. */
export function firstAndLastTenth(values: readonly number[]): [first: number, last: number] {
  const count = Math.max(1, Math.floor(values.length / 10));
  return [mean(values.slice(0, count)), mean(values.slice(-count))];
}

/** The mean. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** One line for each seed, and their mean as a thick one. */
export function toSvg(
  curves: readonly (readonly number[])[],
  { title, xLabel }: { readonly title: string; readonly xLabel: string },
): string {
  const [width, height, margin] = [640, 360, 48];
  const highest = Math.max(...curves.flat()) * 1.05 || 1;
  const steps = Math.max(1, ...curves.map((curve) => curve.length - 1));
  const x = (step: number) => margin + step / steps * (width - 2 * margin);
  const y = (value: number) => height - margin - value / highest * (height - 2 * margin);
  const line = (curve: readonly number[], style: string) => {
    const points = curve.map((value, step) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`);
    return `<polyline fill="none" ${style} points="${points.join(" ")}"/>`;
  };
  const average = Array.from(
    { length: Math.min(...curves.map((curve) => curve.length)) },
    (_, step) => mean(curves.map((curve) => curve[step]!)),
  );
  const marks = [0, highest / 2, highest].map((value) =>
    `<text x="${margin - 6}" y="${y(value) + 4}" text-anchor="end">${value.toFixed(2)}</text>`
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="${width / 2}" y="24" text-anchor="middle" font-size="14">${title}</text>
<path d="M${margin} ${margin}V${height - margin}H${width - margin}" fill="none" stroke="gray"/>
${marks.join("\n")}
<text x="${width / 2}" y="${height - 12}" text-anchor="middle">${xLabel}</text>
${curves.map((curve) => line(curve, 'stroke="lightsteelblue"')).join("\n")}
${line(average, 'stroke="steelblue" stroke-width="3"')}
</svg>
`;
}
