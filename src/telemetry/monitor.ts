import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { ValidationError } from "../errors.ts";
import { systemClock } from "../internal/clock.ts";
import { type Facts, type Happening, observe, type Operation } from "../internal/observe.ts";
import { messageOf } from "../internal/thrown.ts";
import { Counts } from "./counts.ts";
import { Curve, type CurvePoint, RateCurve } from "./curve.ts";
import { Histogram, secondsEnds } from "./histogram.ts";
import { familiesOf } from "./families.ts";
import { prometheusText } from "./prometheus.ts";
import { lookAtServers, type ServerLook } from "./server_look.ts";
import type { WatchedCollector, WatchedEngine, WatchedSender, WatchedSync } from "./watched.ts";

/** What a {@linkcode Monitor} watches; each may be left out. */
export interface MonitorOptions {
  /** The fleet; an `AsyncSGLang`. */
  readonly engine?: WatchedEngine | undefined;
  /** The rollouts; an `LLMCollector`. */
  readonly collector?: WatchedCollector | undefined;
  /** The weight syncs; an `SGLangWeightSender`. */
  readonly sender?: WatchedSender | undefined;
}

const NAMES = {
  engine: true,
  collector: true,
  sender: true,
} as const satisfies OptionNames<MonitorOptions>;

/** Something that is worth a line. */
export interface MonitorEvent {
  /** Number of the event, from 1. */
  readonly number: number;
  /** When, as milliseconds since 1970. */
  readonly at: number;
  /** What it is about. */
  readonly kind: "server" | "sync" | "rollout" | "note";
  /** Whether somebody should look. */
  readonly level: "info" | "warning" | "error";
  /** The line. */
  readonly text: string;
}

/** Events that are kept. */
const MOST_EVENTS = 500;
/** Values that a program may record under names of its own. */
const MOST_NAMES = 100;
const LONGEST_TEXT = 500;
/** Curves that the monitor makes itself. */
const OWN_CURVES = ["reward", "staleness", "rows_per_s", "tokens_per_s"];
const NAME = /^[a-z][a-z0-9_]{0,63}$/;

/**
 * Watches an engine, a collector and a sender, and keeps what the live page and Prometheus show:
 * counts, curves and the last 500 events, in bounded memory. It asks the servers nothing by itself.
 *
 * @example
 * ```ts
 * import { Monitor } from "@sglang-rl/sglang-rl/telemetry";
 *
 * using monitor = new Monitor({});
 * monitor.record("mismatch_k3", 0.0012);
 * const text = await monitor.metrics();
 * ```
 */
export class Monitor implements Disposable {
  readonly #watched: MonitorOptions;
  readonly #counts = new Counts();
  readonly #events: MonitorEvent[] = [];
  readonly #recorded = new Map<string, number>();
  readonly #curves = new Map<string, Curve>();
  readonly #rates = { rows: new RateCurve(), tokens: new RateCurve() };
  readonly #stack = new DisposableStack();
  readonly #listeners = new Set<() => void>();
  #batchRewards = { sum: 0, count: 0 };
  #eventNumber = 0;
  #sync: WatchedSync | null = null;

  /** Begins to watch, until disposed. */
  constructor(watched: MonitorOptions) {
    checkOptionNames(watched, NAMES, "a monitor");
    this.#watched = watched;
    this.#stack.use(observe({
      begin: (operation) => this.#begin(operation),
      told: (happening) => this.#told(happening),
    }));
    const states = watched.engine?.onWorkerEvent?.(({ url, from, to, reason }) => {
      const isLost = from === "serving" && to !== "draining";
      if (isLost) this.#counts.lost.set(url, (this.#counts.lost.get(url) ?? 0) + 1);
      const text = `${url}: ${from ?? "new"} → ${to} (${reason})`;
      this.#note("server", isLost ? "warning" : "info", text);
    });
    if (states !== undefined) this.#stack.use(states);
  }

  /** What it watches. */
  get watched(): MonitorOptions {
    return this.#watched;
  }

  /** What was counted so far. */
  get counts(): Readonly<Counts> {
    return this.#counts;
  }

  /** The last events, oldest first. */
  get events(): readonly MonitorEvent[] {
    return this.#events;
  }

  /** The sync that runs, or ran last; `null` before the first. */
  get sync(): WatchedSync | null {
    return this.#sync;
  }

  /** The last value under each name of {@linkcode Monitor.record}. */
  get recorded(): ReadonlyMap<string, number> {
    return this.#recorded;
  }

  /** Curves by name: `reward` and `staleness` of batches, `rows_per_s`, `tokens_per_s`, and recorded ones. */
  curves(now: number = Date.now()): Record<string, readonly CurvePoint[]> {
    return {
      ...Object.fromEntries([...this.#curves].map(([name, { points }]) => [name, points])),
      rows_per_s: this.#rates.rows.pointsUntil(now),
      tokens_per_s: this.#rates.tokens.pointsUntil(now),
    };
  }

  /**
   * Keeps a value of the training, such as a loss or a mismatch, for the page and for Prometheus.
   *
   * @param name Lower-case letters, digits and `_`, at most 64; at most 100 names.
   * @throws {ValidationError} The name or the value is none, or the monitor has a curve of that name.
   */
  record(name: string, value: number): void {
    if (!NAME.test(name)) {
      throw new ValidationError(
        `Cannot record "${
          name.slice(0, 80)
        }": a name has lower-case letters, digits and _, begins ` +
          "with a letter and has at most 64",
      );
    }
    if (typeof value !== "number") {
      throw new ValidationError(`Cannot record ${name}: expected a number, got ${typeof value}`);
    }
    if (OWN_CURVES.includes(name)) {
      throw new ValidationError(`Cannot record "${name}": the monitor has a curve of that name`);
    }
    if (!this.#recorded.has(name) && this.#recorded.size >= MOST_NAMES) {
      throw new ValidationError(`Cannot record "${name}": there are ${MOST_NAMES} names already`);
    }
    this.#recorded.set(name, value);
    this.#curve(name).add(Date.now(), value);
    this.#changed();
  }

  /** Adds a line to the events. */
  note(text: string, level: MonitorEvent["level"] = "info"): void {
    this.#note("note", level, text);
  }

  /** Calls `listener` after something changed, until disposed. */
  onChange(listener: () => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Asks every server how it does, at most 3 s each; one that does not answer is a result. */
  async servers(
    options: { readonly signal?: AbortSignal | undefined } = {},
  ): Promise<ServerLook[]> {
    return await lookAtServers(this.#watched.engine, options);
  }

  /** Everything in Prometheus's text format; asks the servers for their load. */
  async metrics(options: { readonly signal?: AbortSignal | undefined } = {}): Promise<string> {
    return prometheusText(familiesOf(this, await this.servers(options)));
  }

  /** Watches no more; what was counted stays. */
  [Symbol.dispose](): void {
    this.#stack.dispose();
    this.#listeners.clear();
  }

  #begin(operation: Operation) {
    if (!this.#isOurs(operation)) return undefined;
    const startedAt = systemClock.now();
    let hasEnded = false;
    return {
      end: (error?: unknown) => {
        if (hasEnded) return;
        hasEnded = true;
        this.#end(operation, (systemClock.now() - startedAt) / 1000, error);
        this.#changed();
      },
    };
  }

  /** Operations of other engines, collectors and senders of this process are not shown. */
  #isOurs({ name, subject, facts }: Operation): boolean {
    const { engine, collector, sender } = this.#watched;
    if (name === "generate") return subject === engine;
    if (name === "dialog" || name === "batch") return subject === collector;
    if (name === "sync") return subject === sender;
    if (name === "refit") return engine?.workers.some(({ url }) => url === facts.server) ?? false;
    return name === "server.start";
  }

  #end({ name, facts }: Operation, seconds: number, error: unknown): void {
    const counts = this.#counts;
    switch (name) {
      case "generate":
        counts.requests++;
        if (error !== undefined) counts.requestsFailed++;
        counts.requestSeconds.add(seconds);
        counts.promptTokens += numberOr0(facts.promptTokens);
        counts.cachedTokens += numberOr0(facts.cachedTokens);
        counts.outputTokens += numberOr0(facts.outputTokens);
        this.#rates.tokens.add(Date.now(), numberOr0(facts.outputTokens));
        return;
      case "dialog":
        if (error !== undefined) this.#note("rollout", "warning", dialogText(facts, error));
        else if (facts.isWhole === true) this.#addReward(numberOr0(facts.reward));
        return;
      case "batch":
        return this.#endBatch(facts, error);
      case "sync":
        return this.#endSync(facts, seconds, error);
      case "refit":
        counts.refits++;
        if (error !== undefined) counts.refitsFailed++;
        return this.#noteEnd("server", `refit of ${facts.server}`, seconds, error);
      case "server.start":
        counts.serverStarts++;
        return this.#noteEnd("server", `start of a server on port ${facts.port}`, seconds, error);
    }
  }

  #addReward(reward: number): void {
    this.#counts.rewardSum += reward;
    this.#counts.rewardCount++;
    this.#batchRewards.sum += reward;
    this.#batchRewards.count++;
  }

  #endBatch(facts: Facts, error: unknown): void {
    if (error !== undefined) return this.#noteEnd("rollout", "batch", 0, error);
    if (facts.rows === undefined) return;
    this.#counts.batches++;
    const { sum, count } = this.#batchRewards;
    if (count > 0) this.#curve("reward").add(Date.now(), sum / count);
    this.#batchRewards = { sum: 0, count: 0 };
    if (typeof facts.staleness !== "number") return;
    this.#counts.staleness.add(facts.staleness);
    this.#curve("staleness").add(Date.now(), facts.staleness);
  }

  #beginSync(facts: Facts): void {
    this.#sync = {
      startedAt: Date.now(),
      state: "running",
      source: String(facts.source ?? ""),
      version: null,
      step: "probe",
      steps: [{ name: "probe", ms: null }],
      message: "begins",
      bytesDone: 0,
      bytesTotal: 0,
      elapsedMs: 0,
      pausedMs: null,
      error: null,
    };
    this.#note("sync", "info", `Sync of ${this.#sync.source} begins`);
  }

  #endSync(facts: Facts, secondsInAll: number, error: unknown): void {
    const counts = this.#counts;
    counts.syncs++;
    if (error !== undefined) counts.syncsFailed++;
    // One that did not begin leaves alone what is shown of another.
    if (typeof facts.queuedMs !== "number") {
      return this.#note("sync", "error", `A sync did not begin: ${messageOf(error)}`);
    }
    const seconds = secondsInAll - facts.queuedMs / 1000;
    if (error === undefined) counts.syncSeconds.add(seconds);
    if (typeof facts.pausedMs === "number") counts.syncPausedSeconds.add(facts.pausedMs / 1000);
    for (const [fact, value] of Object.entries(facts)) {
      if (!fact.startsWith("stepMs.") || typeof value !== "number") continue;
      const step = fact.slice("stepMs.".length);
      const known = counts.syncStepSeconds.get(step);
      const histogram = known ?? new Histogram(secondsEnds);
      if (known === undefined) counts.syncStepSeconds.set(step, histogram);
      histogram.add(value / 1000);
    }
    this.#sync = {
      ...this.#sync!,
      state: error === undefined ? "done" : "failed",
      version: typeof facts.version === "string" ? facts.version : null,
      elapsedMs: seconds * 1000,
      pausedMs: typeof facts.pausedMs === "number" ? facts.pausedMs : null,
      steps: this.#sync!.steps.map(({ name, ms }) => {
        const measured = facts[`stepMs.${name}`];
        return { name, ms: typeof measured === "number" ? measured : ms };
      }),
      error: error === undefined ? null : messageOf(error).slice(0, LONGEST_TEXT),
    };
    const what = facts.version === undefined ? "sync" : `sync of version ${facts.version}`;
    this.#noteEnd("sync", what, seconds, error);
  }

  #told({ name, subject, value }: Happening): void {
    if (name === "row") {
      if (subject !== this.#watched.collector) return;
      this.#counts.rows++;
      this.#rates.rows.add(Date.now(), 1);
      this.#changed();
      return;
    }
    if (subject !== this.#watched.sender) return;
    if (name === "sync.begins") return this.#beginSync(value as Facts);
    if (this.#sync === null) return;
    const { phase, message, bytesDone, bytesTotal, elapsedMs } = value as {
      phase: string;
      message: string;
      bytesDone: number;
      bytesTotal: number;
      elapsedMs: number;
    };
    const steps = phase === this.#sync.step ? this.#sync.steps : this.#nextStep(phase, elapsedMs);
    this.#sync = { ...this.#sync, step: phase, steps, message, bytesDone, bytesTotal, elapsedMs };
    this.#changed();
  }

  /** The steps when one ends and the next begins; a step that comes again goes on. */
  #nextStep(phase: string, elapsedMs: number): WatchedSync["steps"] {
    const { step, steps } = this.#sync!;
    const before = steps.reduce((sum, { ms }) => sum + (ms ?? 0), 0);
    const over = steps.map(({ name, ms }) => ({
      name,
      ms: name === step ? (ms ?? 0) + Math.max(0, elapsedMs - before) : ms,
    }));
    return over.some(({ name }) => name === phase) ? over : [...over, { name: phase, ms: null }];
  }

  #noteEnd(kind: MonitorEvent["kind"], what: string, seconds: number, error: unknown): void {
    if (error === undefined) this.#note(kind, "info", `${what} done in ${seconds.toFixed(2)} s`);
    else this.#note(kind, "error", `${what} failed: ${messageOf(error)}`);
  }

  #note(kind: MonitorEvent["kind"], level: MonitorEvent["level"], text: string): void {
    const event = {
      number: ++this.#eventNumber,
      at: Date.now(),
      kind,
      level,
      text: text.slice(0, LONGEST_TEXT),
    };
    this.#events.push(event);
    if (this.#events.length > MOST_EVENTS) this.#events.shift();
    this.#changed();
  }

  #curve(name: string): Curve {
    const known = this.#curves.get(name);
    if (known !== undefined) return known;
    const made = new Curve();
    this.#curves.set(name, made);
    return made;
  }

  #changed(): void {
    for (const listener of this.#listeners) {
      try {
        listener();
      } catch { /* A display must not decide what becomes of a run. */ }
    }
  }
}

function numberOr0(value: Facts[string]): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function dialogText(facts: Facts, error: unknown): string {
  return `Dialog ${facts.dialog}, try ${Number(facts.attempt) + 1}: ${messageOf(error)}`;
}
