/**
 * Continuous batching: every step runs all requests that are in work as one batch, prompts and
 * single tokens mixed, and yields to the event loop.
 */
import { setImmediate } from "node:timers";
import { systemClock } from "../../internal/clock.ts";
import type { Model } from "../model/model.ts";
import type { ServerTokenizer } from "../tokenizer.ts";
import { PrefixCache } from "./prefix_cache.ts";
import { LogProbRow, sampleToken } from "./sampler.ts";
import { type PlannedChunk, StepPlan } from "./step_plan.ts";
import { finishOf } from "./stops.ts";
import { type Finish, Task, type TaskRequest } from "./task.ts";

/** How a pause treats what runs. */
export type PauseMode = "abort" | "retract" | "in_place";

/** What a scheduler is made of. */
export interface SchedulerOptions {
  readonly model: Model;
  readonly tokenizer: ServerTokenizer;
  readonly eosTokenIds: readonly number[];
  /** Most requests in one batch. */
  readonly maxRunning: number;
  /** Most tokens that the prefix cache keeps. */
  readonly cacheTokens: number;
  /** Called before each step; may wait, to emulate a slow or stalled server. */
  readonly beforeStep: () => Promise<void> | undefined;
  /** Called when the emulated server dies of its input. */
  readonly onCrash: (reason: string) => void;
}

const aborted: Finish = { type: "abort", message: "Aborted", status_code: null, err_type: null };

/** The queue and the batch of one embedded server. */
export class Scheduler {
  readonly #options: SchedulerOptions;
  readonly #prefixes: PrefixCache;
  #waiting: Task[] = [];
  #running: Task[] = [];
  #paused = false;
  #resumed = Promise.withResolvers<void>();
  #closed = false;
  #wake = Promise.withResolvers<void>();
  readonly #loop: Promise<void>;
  /** Version that the tokens from now on carry. */
  weightVersion = "default";
  /** Tokens made since the start. */
  generatedTokens = 0;
  #rate = { tokens: 0, sinceMs: systemClock.now(), perSecond: 0 };

  constructor(options: SchedulerOptions) {
    this.#options = options;
    this.#prefixes = new PrefixCache(options.cacheTokens);
    this.#loop = this.#run();
  }

  /** Requests in the batch. */
  get running(): number {
    return this.#running.length;
  }

  /** Requests in the queue. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Whether generation is paused. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Tokens of the requests in the batch. */
  get usedTokens(): number {
    return this.#running.reduce((total, task) => total + (task.cache?.length ?? 0), 0);
  }

  /** Tokens per second lately; 0 when idle. */
  get tokensPerSecond(): number {
    return this.#running.length === 0 ? 0 : this.#rate.perSecond;
  }

  /** Waits while generation is paused; ends too when the scheduler is closed. */
  async whenNotPaused(): Promise<void> {
    while (this.#paused && !this.#closed) await this.#resumed.promise;
  }

  /** Queues a request. */
  submit(request: TaskRequest): Task {
    const task = new Task(request, this.weightVersion);
    if (this.#closed) {
      this.#end(task, aborted);
      return task;
    }
    this.#waiting.push(task);
    this.#wake.resolve();
    return task;
  }

  /** Aborts the requests whose id `matches`; those keep what they have made. */
  abort(matches: (rid: string) => boolean): void {
    this.#waiting = this.#waiting.filter((task) => {
      if (!matches(task.request.rid)) return true;
      if (task.started) return this.#end(task, aborted);
      task.abortedInQueue = true;
      return this.#end(task, { type: "abort", message: "Abort in waiting queue" });
    });
    this.#running = this.#running.filter((task) =>
      !matches(task.request.rid) || this.#end(task, aborted)
    );
  }

  /** Stops making tokens until `resume`. */
  pause(mode: PauseMode): void {
    this.#paused = true;
    if (mode === "abort") this.abort(() => true);
    if (mode === "retract") this.#retract();
  }

  /** Goes on. */
  resume(): void {
    this.#paused = false;
    this.#letIn();
    this.#wake.resolve();
  }

  /** Whether the cache may be flushed: nothing runs or waits (a retracted request may, if said). */
  canFlush(options: { ignoreQueueWhenPaused: boolean }): boolean {
    if (this.#running.length > 0) return false;
    return this.#waiting.length === 0 || (options.ignoreQueueWhenPaused && this.#paused);
  }

  /** Empties the prefix cache. */
  flush(): void {
    this.#prefixes.clear();
  }

  /** Ends the loop; requests in work end as aborted. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#letIn();
    this.abort(() => true);
    this.#wake.resolve();
    await this.#loop;
  }

  #letIn(): void {
    const { resolve } = this.#resumed;
    this.#resumed = Promise.withResolvers();
    resolve();
  }

  #retract(): void {
    for (const task of this.#running) {
      task.cache = null;
      task.retractions++;
    }
    this.#waiting = [...this.#running, ...this.#waiting];
    this.#running = [];
  }

  /** Ends a task. Returns `false`, for use in a filter. */
  #end(task: Task, finish: Finish): false {
    task.weightVersion = this.weightVersion;
    task.end(finish);
    return false;
  }

  async #run(): Promise<void> {
    while (!this.#closed) {
      if (this.#paused || this.#running.length + this.#waiting.length === 0) {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
        continue;
      }
      await this.#options.beforeStep();
      // The pause may have come while the step was held back.
      if (!this.#paused && !this.#closed) this.#step();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #step(): void {
    const chunks = this.#plan();
    if (chunks.length === 0) return;
    const logits = this.#options.model.forward(chunks.map(({ chunk }) => chunk));
    const { vocabSize } = this.#options.model.config;
    let row = 0;
    for (const { task, chunk } of chunks) {
      const first = task.cache!.length - chunk.tokens.length + chunk.logitsFrom;
      for (let position = first; position < task.cache!.length; position++, row++) {
        const scores = logits.subarray(row * vocabSize, (row + 1) * vocabSize);
        if (position < task.promptLength - 1) this.#scorePrompt(task, scores, position + 1);
        else this.#makeToken(task, scores);
      }
    }
    this.#running = this.#running.filter((task) => task.finish === null);
  }

  /** Takes in what waits and cuts this step's work. */
  #plan(): readonly PlannedChunk[] {
    const plan = new StepPlan(this.#options.model.config.vocabSize);
    for (const task of this.#running) plan.add(task);
    while (
      this.#waiting.length > 0 && this.#running.length < this.#options.maxRunning && !plan.isFull
    ) {
      const task = this.#waiting.shift()!;
      if (!this.#admit(task)) continue;
      this.#running.push(task);
      plan.add(task);
    }
    return plan.chunks;
  }

  #admit(task: Task): boolean {
    const { vocabSize } = this.#options.model.config;
    const outside = task.ids.find((id) => id < 0 || id >= vocabSize);
    if (outside !== undefined) {
      // The real scheduler indexes the embedding with it and dies (measured on 0.5.16 and 0.5.23).
      this.#options.onCrash(`token id ${outside} is outside the vocabulary of ${vocabSize}`);
      return false;
    }
    const { adapter } = task.request;
    if (adapter?.deadly !== undefined) {
      // The real scheduler copies the matrices at their first use and ends by an assertion.
      this.#options.onCrash(adapter.deadly);
      return false;
    }
    const limit = Math.min(task.ids.length - 1, task.request.logProbStart);
    const cache = task.retractions > 0
      ? null
      : this.#prefixes.take(task.ids, limit, task.request.adapter?.id);
    task.cache = cache ?? this.#options.model.newCache();
    if (!task.started) task.cachedTokens = task.cache.length;
    task.started = true;
    return true;
  }

  #scorePrompt(task: Task, scores: Float32Array, index: number): void {
    // A retracted request runs its prompt again, but its prompt's scores are already known.
    if (index - task.request.logProbStart !== task.promptLogProbs.length) return;
    const row = new LogProbRow(scores);
    const { topLogProbs, tokenIdsLogProb } = task.request;
    task.promptLogProbs.push(row.of(task.ids[index]!));
    if (topLogProbs > 0) task.promptTop.push(row.top(topLogProbs));
    if (tokenIdsLogProb !== null) task.promptPicked.push(tokenIdsLogProb.map((id) => row.of(id)));
  }

  #makeToken(task: Task, scores: Float32Array): void {
    const { request } = task;
    if (request.sampling.maxNewTokens === 0) {
      this.#finish(task, { type: "length", length: 0 });
      return;
    }
    const { token, logProbs } = sampleToken(task, scores, this.#options.eosTokenIds);
    if (logProbs !== null) {
      task.outputLogProbs.push(logProbs.of(token));
      if (request.topLogProbs > 0) task.outputTop.push(logProbs.top(request.topLogProbs));
      const picked = request.tokenIdsLogProb;
      if (picked !== null) task.outputPicked.push(picked.map((id) => logProbs.of(id)));
    }
    task.ids.push(token);
    task.weightVersion = this.weightVersion;
    task.addSpan(this.weightVersion);
    this.#count();
    const { tokenizer, eosTokenIds, model } = this.#options;
    const { contextLength } = model.config;
    const finish = finishOf(task, { eosTokenIds, contextLength, tokenizer });
    if (finish === null) task.notify();
    else this.#finish(task, finish);
  }

  #finish(task: Task, finish: Finish): void {
    if (task.cache !== null) {
      this.#prefixes.put(task.ids, task.cache, task.request.adapter?.id);
    }
    this.#end(task, finish);
  }

  #count(): void {
    this.generatedTokens++;
    this.#rate.tokens++;
    const elapsedMs = systemClock.now() - this.#rate.sinceMs;
    if (elapsedMs < 500) return;
    const perSecond = this.#rate.tokens / elapsedMs * 1000;
    this.#rate = { tokens: 0, sinceMs: systemClock.now(), perSecond };
  }
}
