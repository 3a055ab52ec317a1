import type { Generation, GenerationDelta } from "../client/types.ts";
import { AbortedError, HttpError, StateError, TimeoutError } from "../errors.ts";
import { sleep } from "../internal/deadline.ts";
import type { Facts } from "../internal/observe.ts";
import { Semaphore } from "../internal/semaphore.ts";
import type { GenerateOptions } from "./engine.ts";
import { type BegunRequest, GenerateCall, OpenCall } from "./generate_call.ts";
import { type GeneratePlan, type PlannedRequest, samplesOf } from "./generate_plan.ts";
import { droppedSample, madeBy } from "./make_generation.ts";
import { type OpenRequest, OpenRequests } from "./open_requests.ts";
import { RequestSender, type RequestSenderOptions } from "./request_sender.ts";
import { type WatchedModel, watchRequest, watchStream } from "./watched_request.ts";

/** How often an abort is sent while a request still runs, and how far apart. */
const ABORT_ROUNDS = 3;
const ABORT_PAUSE_MS = 500;

/** What a dispatcher works with. */
export interface DispatcherOptions extends RequestSenderOptions {
  /** The engine, as traces and metrics know it. */
  readonly engine: object;
  /** Most requests in flight. */
  readonly maxConcurrency: number;
}

/** A prompt of a call that has its turn. */
interface Begun {
  readonly planned: PlannedRequest;
  readonly plan: GeneratePlan;
  /** The place of its call in the line. */
  readonly place: Promise<Disposable>;
  /** When the call began. */
  readonly begunAt: number;
}

/**
 * Calls of `generate` and `stream` under way: each request is its own, first come, first served,
 * with a limit on how many are in flight. How one reaches a server is for the {@linkcode
 * RequestSender}.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #sender: RequestSender;
  readonly #requests: OpenRequests;
  /** Calls that still have prompts to send; the first in the line sends, so that none overtakes. */
  readonly #line = new Semaphore(1);
  readonly #closing = new AbortController();
  /** Calls under way: taking a listener off a signal that has thousands is slow. */
  readonly #calls = new Set<OpenCall>();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#sender = new RequestSender(options);
    this.#requests = new OpenRequests(options.maxConcurrency);
  }

  /** Who generates, as traces and metrics know it. */
  get #watched(): WatchedModel {
    const { engine, pool } = this.#options;
    return { engine, model: pool.workers[0]?.modelPath };
  }

  /** Changes how many requests may be in flight. */
  set maxConcurrency(limit: number) {
    this.#requests.most = limit;
  }

  /** Requests of ours that the servers have. */
  get inFlight(): number {
    return this.#requests.inFlight;
  }

  /** Requests that wait for their turn. */
  get queued(): number {
    let left = this.#requests.unsent;
    for (const call of this.#calls) left += call.left;
    return left;
  }

  /**
   * Sends every request of a plan; samples come in the order of the prompts. The first failure, the
   * deadline and the caller's signal end the others, on the servers too.
   */
  async generate(plan: GeneratePlan, options: GenerateOptions): Promise<Generation[]> {
    using _rids = this.#requests.reserve(plan.rids);
    const begunAt = this.#options.clock.now();
    const call: GenerateCall = new GenerateCall({
      plan,
      begin: (planned) => this.#begin(call, { planned, plan, place, begunAt }),
      dropped: (planned) => this.#dropped(planned, plan),
      isOfOnePrompt: isRefusal,
      onProgress: options.onProgress,
    });
    using _stop = this.#stopOn(call, options);
    const place = this.#line.acquire(call.signal);
    // The call may end while it waits, with an error of its own.
    place.catch(() => {});
    return await this.#tracked(this.#runInLine(call, place));
  }

  /** Runs a call; it leaves the line when its last prompt has its turn. */
  async #runInLine(call: GenerateCall, place: Promise<Disposable>): Promise<Generation[]> {
    try {
      return await call.run(async () => (await place)[Symbol.dispose]());
    } finally {
      // The call may have ended while it waited.
      place.then((one) => one[Symbol.dispose](), () => {});
    }
  }

  /** Begins the request of a prompt, or one after the other its parts. */
  #begin(call: GenerateCall, begun: Begun): BegunRequest {
    const { planned, plan: { n } } = begun;
    if (planned.parts === undefined) return this.#run(call, begun, n);
    const entered = Promise.withResolvers<void>();
    return {
      entered: entered.promise,
      samples: this.#runParts(call, begun, entered.resolve),
    };
  }

  /** Sends one request as a stream. */
  async *stream(
    planned: PlannedRequest,
    options: GenerateOptions,
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    // The deadline is the client's here, which has a phase of its own for it.
    const call = new OpenCall();
    using _stop = this.#stopOn(call, { signal: options.signal });
    using _rid = this.#requests.reserve(new Set([planned.request.rid]));
    using open = this.#requests.register(planned, call);
    const sending = { signal: open.signal, timeoutMs: options.timeoutMs };
    yield* watchStream(
      this.#watched,
      planned,
      (facts) => this.#streamInTurn(planned, { open, sending, facts }),
    );
  }

  async *#streamInTurn(
    planned: PlannedRequest,
    { open, sending, facts }: {
      readonly open: OpenRequest;
      readonly sending: { readonly signal: AbortSignal; readonly timeoutMs: number | undefined };
      readonly facts: Facts;
    },
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    const begunAt = this.#options.clock.now();
    using permit = await this.#requests.enter(open, this.#line.acquire(open.signal), true);
    facts.queuedMs = this.#options.clock.now() - begunAt;
    if (permit === undefined) {
      const final = droppedSample(planned, this.#sender.address);
      yield { text: "", ids: final.ids, logProbs: final.logProbs, final };
      return;
    }
    yield* this.#sender.stream(planned, sending);
  }

  /**
   * Aborts requests of ours: those not sent yet end here, those sent through `abortOnServers`. A
   * request may just be on its way when its abort arrives, so that is tried again while it runs.
   */
  async abort(
    rids: readonly string[] | "all",
    abortOnServers: (rids: readonly string[] | "all") => Promise<unknown>,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const wanted = new Set(rids === "all" ? [] : rids);
    const ours = this.#requests.named(rids === "all" ? rids : wanted);
    for (const call of this.#calls) call.drop(rids === "all" ? rids : wanted);
    for (const { planned } of ours) wanted.add(planned.request.rid);
    const onServers = rids === "all" ? rids : [...wanted];
    for (const { planned, isSent, drop } of ours) {
      // With several samples the server does not know our id and cannot abort by it.
      if (!isSent || (rids !== "all" && samplesOf(planned) > 1)) drop();
    }
    const ended = Promise.all(ours.map((open) => open.ended)).then(() => true);
    for (let round = 0; round < ABORT_ROUNDS; round++) {
      await abortOnServers(onServers);
      const pause = new AbortController();
      const either = signal === undefined ? pause.signal : AbortSignal.any([signal, pause.signal]);
      const wait = sleep(ABORT_PAUSE_MS, { signal: either, clock: this.#options.clock })
        .then(() => false, () => false);
      const isDone = await Promise.race([ended, wait]);
      pause.abort();
      if (isDone || signal?.aborted) return;
    }
  }

  /** Ends everything; later calls are refused. */
  close(): void {
    const error = new StateError("The engine was shut down");
    this.#closing.abort(error);
    for (const call of this.#calls) call.end(error);
  }

  /** Resolves when no call is under way. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#running);
  }

  async #tracked<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }

  #run(call: GenerateCall, begun: Begun, n: number): BegunRequest & { open: OpenRequest } {
    const { clock } = this.#options;
    const { planned, plan, place, begunAt } = begun;
    const open = this.#requests.register(planned, call);
    const permit = this.#requests.enter(open, place, false);
    const samples = watchRequest(this.#watched, planned, async (facts) => {
      using _open = open;
      using permitted = await permit;
      facts.queuedMs = clock.now() - begunAt;
      if (permitted === undefined) return this.#dropped(planned, { ...plan, n });
      try {
        const samples = await this.#sender.send(planned, n, open.signal);
        return samples.map((sample) => madeBy(plan.adapter, sample));
      } catch (error) {
        if (open.isDropped) return this.#dropped(planned, { ...plan, n });
        throw open.signal.aborted ? open.signal.reason : error;
      }
    });
    return { open, samples, entered: permit.then(() => {}, () => {}) };
  }

  #dropped(
    planned: PlannedRequest,
    { n, adapter }: Pick<GeneratePlan, "n" | "adapter">,
  ): Generation[] {
    return Array.from(
      { length: n },
      () => madeBy(adapter, droppedSample(planned, this.#sender.address)),
    );
  }

  /** Sends the samples of a prompt one by one; the first failure ends the others. */
  async #runParts(call: GenerateCall, begun: Begun, entered: () => void): Promise<Generation[]> {
    const parts = begun.planned.parts!;
    const open: OpenRequest[] = [];
    const runs: Promise<Generation[]>[] = [];
    let failure: { readonly error: unknown } | undefined;
    try {
      for (const planned of parts) {
        if (failure !== undefined || call.signal.aborted) break;
        const one = this.#run(call, { ...begun, planned }, 1);
        open.push(one.open);
        runs.push(one.samples);
        one.samples.catch((error) => {
          failure ??= { error };
          for (const other of open) other.end(error);
        });
        await one.entered;
      }
    } finally {
      entered();
    }
    const settled = await Promise.allSettled(runs);
    if (call.signal.aborted) throw call.signal.reason;
    if (failure !== undefined) throw failure.error;
    return settled.flatMap((one) => one.status === "fulfilled" ? one.value : []);
  }

  /** Ends a call with the caller's signal, at its deadline and with the engine. */
  #stopOn(
    call: OpenCall,
    { signal, timeoutMs }: Pick<GenerateOptions, "signal" | "timeoutMs">,
  ): Disposable {
    const onAbort = () => call.end(new AbortedError("generate", { cause: signal?.reason }));
    if (signal?.aborted) onAbort();
    if (this.#closing.signal.aborted) call.end(this.#closing.signal.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#calls.add(call);
    const cancel = timeoutMs === undefined ? () => {} : this.#options.clock.schedule(
      timeoutMs,
      () => call.end(this.#timeoutError(timeoutMs)),
    );
    return {
      [Symbol.dispose]: () => {
        cancel();
        signal?.removeEventListener("abort", onAbort);
        this.#calls.delete(call);
      },
    };
  }

  #timeoutError(timeoutMs: number): TimeoutError {
    return new TimeoutError({
      phase: "generate",
      timeoutMs,
      peer: this.#options.router?.url ??
        this.#options.pool.workers.map((worker) => worker.url).join(", "),
      lastHeard: `${this.inFlight} requests in flight, ${this.queued} queued`,
      hint: "A paused server answers only after it is resumed",
    });
  }
}

/** Whether a server refused what it was asked, rather than failed. */
function isRefusal(error: unknown): boolean {
  return error instanceof HttpError && error.status >= 400 && error.status < 500 &&
    ![401, 403, 404, 408, 429].includes(error.status);
}
