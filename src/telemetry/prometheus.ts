import type { Histogram } from "./histogram.ts";

/** Labels of a sample. */
export type Labels = Readonly<Record<string, string>>;

/** One metric with its samples. */
export type Family =
  | {
    readonly type: "gauge" | "counter";
    readonly name: string;
    readonly help: string;
    /** Samples without a number are left out. */
    readonly samples: readonly (readonly [Labels, number | null | undefined])[];
  }
  | {
    readonly type: "histogram";
    readonly name: string;
    readonly help: string;
    readonly samples: readonly (readonly [Labels, Histogram])[];
  }
  | {
    readonly type: "summary";
    readonly name: string;
    readonly help: string;
    readonly samples: readonly (readonly [
      Labels,
      { readonly sum: number; readonly count: number },
    ])[];
  };

/** Type of an answer in Prometheus's text format. */
export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Metrics in Prometheus's text format; one without samples keeps its two lines. */
export function prometheusText(families: readonly Family[]): string {
  return families.map((family) => {
    const { name, help, type } = family;
    const lines = family.type === "histogram"
      ? family.samples.flatMap(([labels, histogram]) => histogramLines(name, labels, histogram))
      : family.type === "summary"
      ? family.samples.flatMap(([labels, { sum, count }]) => [
        line(`${name}_sum`, labels, sum),
        line(`${name}_count`, labels, count),
      ])
      : family.samples.flatMap(([labels, value]) =>
        value === null || value === undefined ? [] : [line(name, labels, value)]
      );
    return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n${lines.join("")}`;
  }).join("");
}

function histogramLines(name: string, labels: Labels, histogram: Histogram): string[] {
  const { ends, cumulative, count, sum } = histogram;
  return [
    ...ends.map((end, i) => line(`${name}_bucket`, { ...labels, le: String(end) }, cumulative[i]!)),
    line(`${name}_bucket`, { ...labels, le: "+Inf" }, count),
    line(`${name}_sum`, labels, sum),
    line(`${name}_count`, labels, count),
  ];
}

function line(name: string, labels: Labels, value: number): string {
  const named = Object.entries(labels).map(([key, text]) => `${key}="${escapeLabel(text)}"`);
  return `${name}${named.length === 0 ? "" : `{${named.join(",")}}`} ${numberText(value)}\n`;
}

function numberText(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(value);
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}
