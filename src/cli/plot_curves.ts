/** The curves of a file: of its dialogs, or of the numbers of a run. */
import type { PlotSeries } from "../dashboard/mod.ts";
import { ValidationError } from "../errors.ts";
import { openSource } from "../internal/byte_source.ts";
import { isRecord } from "../internal/json.ts";
import { findLines } from "../internal/line_index.ts";
import { readRollout, type RolloutFile } from "../rollout_file/mod.ts";
import { ratioOf } from "../training/log_ratios.ts";

/** What is plotted of a file. */
export interface Curves {
  readonly title: string;
  readonly xLabel: string;
  readonly series: readonly PlotSeries[];
  /** Rows or lines that cannot be read; they are left out. */
  readonly damaged: number;
}

/** How a file is read. */
export interface CurveOptions {
  /** Dialogs, or steps, whose mean is one point. */
  readonly every: number | undefined;
  /** The same rows with the trainer's log-probabilities. */
  readonly trained?: string | undefined;
  /** Names of a run's numbers that are drawn. Default all. */
  readonly only?: readonly string[] | undefined;
  readonly signal: AbortSignal;
}

const EVERY_DIALOGS = 16;
const MOST_ROWS = 10_000_000;
const LONGEST_LINE = 2 ** 20;
/** Numbers of a run that are drawn; a file of more has something else in mind. */
const MOST_NAMES = 100;

/** Reads a file of rollouts, or of the numbers that a sink of `./sinks` writes. */
export async function curvesOf(path: string, options: CurveOptions): Promise<Curves> {
  const numbers = await numbersOf(path, options);
  if (numbers === undefined) return await rolloutCurves(path, options);
  if (options.trained === undefined) return numbers;
  throw new ValidationError(`--trained is for a file of rollouts; ${path} has numbers of a run`);
}

/** Mean rewards, and how far trainer and engine are apart. */
async function rolloutCurves(path: string, options: CurveOptions): Promise<Curves> {
  const { every = EVERY_DIALOGS, trained: trainedPath, signal } = options;
  await using rollouts = await readRollout(path, { signal });
  await using trained = trainedPath === undefined
    ? undefined
    : await readRollout(trainedPath, { signal });
  if (trained !== undefined && trained.length !== rollouts.length) {
    throw new ValidationError(
      `${trainedPath} must have the rows of ${path}, ${rollouts.length}, not ${trained.length}`,
    );
  }
  const points = await pointsOf(rollouts, trained, { every, signal });
  const name = `mean of ${every} dialogs`;
  return {
    title: trained === undefined ? "Reward" : "Reward and mismatch",
    xLabel: "dialogs",
    damaged: points.damaged,
    series: [
      { name, points: points.rewards, panel: "reward" },
      ...(trained === undefined
        ? []
        : [{ name, points: points.mismatch, panel: "mismatch (k3) of trainer and engine" }]),
    ],
  };
}

async function pointsOf(
  rollouts: RolloutFile,
  trained: RolloutFile | undefined,
  { every, signal }: { readonly every: number; readonly signal: AbortSignal },
) {
  /** Of each dialog its last try: one that was run anew does not count. */
  const dialogs = new Map<number, { attempt: number; reward: number; k3: number; ids: number }>();
  let damaged = 0;
  const others = trained?.entries();
  for await (const { row, record, damage } of rollouts.entries()) {
    signal.throwIfAborted();
    const other = await others?.next();
    if (damage !== undefined) {
      damaged++;
      continue;
    }
    const { dialog, attempt } = record;
    const known = dialogs.get(dialog);
    if (known !== undefined && known.attempt > attempt) continue;
    const entry = known?.attempt === attempt ? known : { attempt, reward: 0, k3: 0, ids: 0 };
    dialogs.set(dialog, entry);
    entry.reward += record.reward;
    if (trained === undefined) continue;
    const rescored = other!.value?.record;
    if (rescored === undefined || rescored.logProbs?.length !== record.logProbs?.length) {
      throw new ValidationError(
        `Row ${row} has other ids or log-probabilities in the trainer's file: it must have the ` +
          "same rows, with the trainer's log_probs",
      );
    }
    record.logProbs?.forEach((sampled, i) => {
      const logRatio = rescored.logProbs![i]! - sampled;
      if (!Number.isFinite(logRatio)) return;
      entry.k3 += ratioOf(logRatio) - 1 - logRatio;
      entry.ids++;
    });
  }
  const rewards: [number, number][] = [];
  const mismatch: [number, number][] = [];
  const all = [...dialogs.values()];
  for (let at = 0; at < all.length; at += every) {
    const part = all.slice(at, at + every);
    const sum = (value: (one: typeof all[number]) => number) =>
      part.reduce((total, one) => total + value(one), 0);
    rewards.push([at + part.length, sum(({ reward }) => reward) / part.length]);
    const ids = sum((one) => one.ids);
    if (ids > 0) mismatch.push([at + part.length, sum(({ k3 }) => k3) / ids]);
  }
  return { rewards, mismatch, damaged };
}

/** Means of one of a run's numbers, and what the next of them has so far. */
interface Curve {
  readonly points: [number, number][];
  step: number;
  sum: number;
  count: number;
}

/** The numbers of a run, one panel for each name; undefined for another file. */
async function numbersOf(
  path: string,
  { every = 1, only, signal }: CurveOptions,
): Promise<Curves | undefined> {
  const source = await openSource(path, { signal });
  try {
    // Of a file that may be large the beginning tells what it is.
    const beginning = await source.read(0, Math.min(source.size, LONGEST_LINE));
    const first = new TextDecoder().decode(beginning).trimStart().split("\n", 1)[0]!;
    if (!isNumbers(parsed(first))) return undefined;
    const lines = await findLines(source, {
      maxRows: MOST_ROWS,
      maxLineBytes: LONGEST_LINE,
      keepsLongLines: true,
      signal,
    });
    const curves = new Map<string, Curve>();
    let damaged = 0;
    for (let at = 0; at < lines.length; at += 256) {
      for (const text of await lines.read(at, Math.min(at + 256, lines.length))) {
        const line = text instanceof Error ? undefined : parsed(text);
        if (isNumbers(line)) addLine(line, curves, { every, only });
        else damaged++;
      }
    }
    // The last mean may be of fewer, as that of dialogs is.
    for (const curve of curves.values()) endPoint(curve);
    const missing = only?.find((name) => !curves.has(name));
    if (missing !== undefined) {
      throw new ValidationError(
        `${path} has no number "${missing}"` +
          (curves.size === 0 ? "" : `; it has ${[...curves.keys()].join(", ")}`),
      );
    }
    return {
      title: "Numbers of a run",
      xLabel: "steps",
      damaged,
      series: [...curves].map(([name, { points }]) => ({
        name: every === 1 ? "" : `mean of ${every}`,
        points,
        panel: name,
      })),
    };
  } finally {
    source.close();
  }
}

function addLine(
  line: { readonly step: number; readonly [name: string]: unknown },
  curves: Map<string, Curve>,
  { every, only }: { readonly every: number; readonly only: readonly string[] | undefined },
): void {
  for (const [name, value] of Object.entries(line)) {
    if (name === "step" || name === "time" || typeof value !== "number") continue;
    if (only !== undefined && !only.includes(name)) continue;
    const curve = curves.get(name) ?? { points: [], step: 0, sum: 0, count: 0 };
    if (!curves.has(name)) {
      if (curves.size === MOST_NAMES) {
        throw new ValidationError(`The file has more than ${MOST_NAMES} names: choose with --only`);
      }
      curves.set(name, curve);
    }
    curve.step = line.step;
    curve.sum += value;
    if (++curve.count === every) endPoint(curve);
  }
}

function endPoint(curve: Curve): void {
  if (curve.count > 0) curve.points.push([curve.step, curve.sum / curve.count]);
  curve.sum = curve.count = 0;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isNumbers(
  value: unknown,
): value is { readonly step: number; readonly [name: string]: unknown } {
  return isRecord(value) && typeof value.step === "number" && !Object.hasOwn(value, "schema");
}
