/** One request in the scheduler: what was asked and what has been made so far. */
import { systemClock } from "../../internal/clock.ts";
import type { LoraMatrices } from "../adapters/adapter.ts";
import type { KvCache } from "../model/kv_cache.ts";
import type { Sampling } from "./sampling_params.ts";

/** `[log-probability, token id]` of one position. */
export type LogProb = readonly [number | null, number];

/** Why a task ended, in the form of the wire. */
export type Finish =
  | { readonly type: "length"; readonly length: number }
  | { readonly type: "stop"; readonly matched: number | string }
  | {
    readonly type: "abort";
    readonly message: string;
    readonly status_code?: number | null;
    readonly err_type?: string | null;
  };

/** What was asked. */
export interface TaskRequest {
  readonly rid: string;
  readonly promptIds: readonly number[];
  readonly sampling: Sampling;
  readonly seed: number;
  readonly returnLogProbs: boolean;
  /** First prompt position with a log-probability; the prompt's length for none. */
  readonly logProbStart: number;
  readonly topLogProbs: number;
  readonly tokenIdsLogProb: readonly number[] | null;
  readonly textInLogProbs: boolean;
  /** The adapter that it runs with. */
  readonly adapter?: LoraMatrices | undefined;
}

/** A request and its state. Only the scheduler changes it. */
export class Task {
  readonly request: TaskRequest;
  /** Prompt and output ids. */
  readonly ids: number[];
  readonly promptLength: number;
  readonly arrivedMs = systemClock.now();
  readonly outputLogProbs: LogProb[] = [];
  readonly outputTop: (readonly LogProb[])[] = [];
  readonly outputPicked: (readonly LogProb[])[] = [];
  readonly promptLogProbs: LogProb[] = [];
  readonly promptTop: (readonly LogProb[] | null)[] = [];
  readonly promptPicked: (readonly LogProb[] | null)[] = [];
  readonly spans: { version: string; start: number; end: number }[] = [];
  cache: KvCache | null = null;
  cachedTokens: number | null = null;
  retractions = 0;
  finish: Finish | null = null;
  finishedMs: number | null = null;
  /** Whether it has run; until then its prompt and cache counts are not told. */
  started = false;
  /** Whether an abort found it while it waited: the real server then tells less about it. */
  abortedInQueue = false;
  weightVersion: string;
  readonly #done = Promise.withResolvers<void>();
  #changed = Promise.withResolvers<void>();

  constructor(request: TaskRequest, weightVersion: string) {
    this.request = request;
    this.ids = [...request.promptIds];
    this.promptLength = this.ids.length;
    this.weightVersion = weightVersion;
    if (request.returnLogProbs && request.logProbStart < this.promptLength) {
      this.promptLogProbs.push([null, this.ids[request.logProbStart]!]);
      this.promptTop.push(null);
      this.promptPicked.push(null);
    }
  }

  /** Number of output tokens. */
  get outputLength(): number {
    return this.ids.length - this.promptLength;
  }

  /** The output tokens. */
  outputIds(): number[] {
    return this.ids.slice(this.promptLength);
  }

  /** Resolves when the task has ended. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Resolves at the next token or at the end. */
  get changed(): Promise<void> {
    return this.#changed.promise;
  }

  /** Wakes who waits for the next token. */
  notify(): void {
    const { resolve } = this.#changed;
    this.#changed = Promise.withResolvers();
    resolve();
  }

  /** Ends the task. */
  end(finish: Finish): void {
    if (this.finish !== null) return;
    this.finish = finish;
    this.finishedMs = systemClock.now();
    this.notify();
    this.#done.resolve();
  }

  /** Notes that the last output token was made by `version`. */
  addSpan(version: string): void {
    const end = this.outputLength;
    const last = this.spans.at(-1);
    if (last?.version === version) last.end = end;
    else this.spans.push({ version, start: end - 1, end });
  }
}
