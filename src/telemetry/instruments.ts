import { type Attributes, type Counter, type Histogram, metrics } from "@opentelemetry/api";
import type { Operation } from "../internal/observe.ts";
import { addressOf } from "./attributes.ts";
import { secondsEnds, stalenessEnds } from "./histogram.ts";

// The ends of buckets that the conventions ask for; the SDKs' own are for milliseconds.
const requestEnds = Array.from({ length: 14 }, (_, i) => 0.01 * 2 ** i);
const tokenEnds = Array.from({ length: 14 }, (_, i) => 4 ** i);
const firstChunkEnds = [
  0.001,
  0.005,
  0.01,
  0.02,
  0.04,
  0.06,
  0.08,
  0.1,
  0.25,
  0.5,
  0.75,
  1,
  2.5,
  5,
  7.5,
  10,
];

/** The library's OpenTelemetry metrics; docs/telemetry.md lists them. */
export class Instruments {
  readonly #requestSeconds: Histogram;
  readonly #tokens: Histogram;
  readonly #firstTokenSeconds: Histogram;
  readonly #seconds: Histogram;
  readonly #rewards: Histogram;
  readonly #staleness: Histogram;
  readonly #rows: Counter;
  readonly #pausedSeconds: Histogram;

  /** Makes the instruments. */
  constructor(scope: string) {
    const meter = metrics.getMeter(scope);
    const seconds = (name: string, description: string, ends = secondsEnds) =>
      meter.createHistogram(name, { unit: "s", description, advice: bucketsAt(ends) });
    this.#requestSeconds = seconds(
      "gen_ai.client.operation.duration",
      "Time of a request.",
      requestEnds,
    );
    this.#tokens = meter.createHistogram("gen_ai.client.token.usage", {
      unit: "{token}",
      description: "Tokens of a request.",
      advice: bucketsAt(tokenEnds),
    });
    this.#firstTokenSeconds = seconds(
      "gen_ai.client.operation.time_to_first_chunk",
      "Time to a stream's first tokens.",
      firstChunkEnds,
    );
    this.#seconds = seconds("sglang_rl.operation.duration", "Time of an operation, by its name.");
    this.#rewards = meter.createHistogram("sglang_rl.dialog.reward", {
      unit: "1",
      description: "Sum of a dialog's rewards.",
    });
    this.#staleness = meter.createHistogram("sglang_rl.batch.staleness", {
      unit: "{version}",
      description: "Versions that a batch's oldest token is behind.",
      advice: bucketsAt(stalenessEnds),
    });
    this.#rows = meter.createCounter("sglang_rl.rows", {
      unit: "{row}",
      description: "Rows given out in batches.",
    });
    this.#pausedSeconds = seconds("sglang_rl.sync.paused", "Time that a sync paused the servers.");
  }

  /** Counts an operation that has ended. */
  ended({ name, facts }: Operation, seconds: number): void {
    const error: Attributes = facts.error === undefined ? {} : { "error.type": facts.error };
    if (name === "generate") return this.#request(facts, seconds, error);
    this.#seconds.record(seconds, { "sglang_rl.operation": labelOf(name, facts.step), ...error });
    if (name === "dialog" && typeof facts.reward === "number") this.#rewards.record(facts.reward);
    if (name === "sync" && typeof facts.pausedMs === "number") {
      this.#pausedSeconds.record(facts.pausedMs / 1000);
    }
    if (name !== "batch") return;
    if (typeof facts.rows === "number") this.#rows.add(facts.rows);
    if (typeof facts.staleness === "number") this.#staleness.record(facts.staleness);
  }

  #request(facts: Operation["facts"], seconds: number, error: Attributes): void {
    const attributes: Attributes = {
      "gen_ai.operation.name": "generate_content",
      "gen_ai.provider.name": "sglang",
      ...(typeof facts.model === "string" ? { "gen_ai.request.model": facts.model } : {}),
      ...(typeof facts.server === "string" ? addressOf(facts.server) : {}),
    };
    this.#requestSeconds.record(seconds, { ...attributes, ...error });
    if (typeof facts.firstTokenSeconds === "number") {
      this.#firstTokenSeconds.record(facts.firstTokenSeconds, attributes);
    }
    for (const [kind, count] of [["input", facts.promptTokens], ["output", facts.outputTokens]]) {
      if (typeof count !== "number") continue;
      this.#tokens.record(count, { ...attributes, "gen_ai.token.type": kind });
    }
  }
}

function labelOf(name: string, step: unknown): string {
  return step === undefined ? name : `${name}.${step}`;
}

function bucketsAt(ends: readonly number[]): { explicitBucketBoundaries: number[] } {
  return { explicitBucketBoundaries: [...ends] };
}
