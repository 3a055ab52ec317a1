import type { SGLangClient } from "../client/client.ts";
import { buildRequest } from "../client/request.ts";
import type {
  GenerateRequest,
  Generation,
  GenerationDelta,
  SamplingInput,
  SamplingParams,
} from "../client/types.ts";
import {
  AbortedError,
  HttpError,
  PartialResultError,
  StateError,
  TimeoutError,
  UnreachableError,
  ValidationError,
} from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { asError } from "../internal/thrown.ts";
import type { GenerateOptions } from "./engine.ts";
import { type GeneratePlan, type PlannedRequest, samplesOf } from "./generate_plan.ts";
import { droppedSample } from "./dropped_sample.ts";
import { isBreak, resumedStream } from "./resumed_stream.ts";
import { lostByRouter } from "./router_rules.ts";
import type { Member } from "./member.ts";
import type { Rotation } from "./rotation.ts";
import type { RouterRoute } from "./router_route.ts";
import { watchRequest, watchStream } from "./watched_request.ts";
import type { SGLangWorker, WorkerPool } from "./workers.ts";

/** How often an abort is sent while a request still runs, and how far apart. */
const ABORT_ROUNDS = 3;
const ABORT_PAUSE_MS = 500;

/** How often a request is sent again while servers come back, and how far apart. */
const MAX_AGAIN = 8;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

/** What a dispatcher works with. */
export interface DispatcherOptions {
  /** The engine, as traces and metrics know it. */
  readonly engine: object;
  readonly pool: WorkerPool;
  /** Hears of every sample. */
  readonly rotation: Rotation;
  /** Longest wait while no server may serve. */
  readonly servingTimeoutMs: number;
  /** The router in front of the servers, when there is one. */
  readonly router: SGLangClient | undefined;
  /** The way through it. */
  readonly route: RouterRoute | undefined;
  /** Sampling parameters of requests that give none. */
  readonly samplingDefaults: SamplingParams | undefined;
  /** Whether servers come back: those that died, or those that wait for a sync. */
  readonly isHealing: () => boolean;
  /** Told how each request went that was sent to a server directly. */
  readonly report: (url: string, outcome: "served" | "failed") => void;
  /** Most requests in flight. */
  readonly maxConcurrency: number;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** A request between the call and its answer. */
interface OpenRequest {
  readonly planned: PlannedRequest;
  /** Ends the request without an answer of the server: its samples are empty and aborted. */
  readonly drop: AbortController;
  /** Resolves when the call has its answer or its error. */
  readonly ended: PromiseWithResolvers<void>;
  isSent: boolean;
}

/**
 * Sends requests one by one and all at once: each is its own HTTP request, first come, first
 * served, with a limit on how many are in flight. Through the router where there is one, unless it
 * would lose a part of the request.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #gate: Semaphore;
  readonly #open = new Map<string, OpenRequest>();
  readonly #closing = new AbortController();
  /** Ends of the calls under way: taking a listener off a signal that has thousands is slow. */
  readonly #ends = new Set<() => void>();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#gate = new Semaphore(options.maxConcurrency);
  }

  /** Changes how many requests may be in flight. */
  set maxConcurrency(limit: number) {
    this.#gate.limit = limit;
  }

  /** Requests of ours that the servers have. */
  get inFlight(): number {
    return this.#gate.inside;
  }

  /** Requests that wait for their turn. */
  get queued(): number {
    return this.#gate.waiting;
  }

  /**
   * Sends every request of a plan; samples come in the order of the prompts. The first failure, the
   * deadline and the caller's signal end the others, on the servers too.
   */
  async generate(plan: GeneratePlan, options: GenerateOptions): Promise<Generation[]> {
    const total = plan.requests.length;
    let done = 0;
    using stop = this.#stopOn(options);
    const runs = plan.requests.map(async (planned) => {
      try {
        const samples = planned.parts === undefined
          ? await this.#run(planned, plan.n, stop.signal)
          : await this.#runParts(planned.parts, stop.signal);
        done++;
        options.onProgress?.({ done, total });
        return samples;
      } catch (error) {
        // A prompt that a server refuses says nothing about the others; any other error does.
        if (total === 1 || !isRefusal(error)) stop.end(error);
        throw error;
      }
    });
    const settled = await this.#tracked(Promise.allSettled(runs));
    if (stop.signal.aborted) throw stop.signal.reason;
    const partial = settled.flatMap((run) => run.status === "fulfilled" ? run.value : []);
    const failures = settled.flatMap((run, row) =>
      run.status === "rejected" ? [{ row, error: asError(run.reason) }] : []
    );
    if (failures.length === 0) return partial;
    if (failures.length === total) throw failures[0]!.error;
    const rows = settled.flatMap(({ status }, row) => status === "fulfilled" ? [row] : []);
    throw new PartialResultError({ failures, rows, partial });
  }

  /** Sends one request as a stream. */
  async *stream(
    planned: PlannedRequest,
    options: GenerateOptions,
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    // The deadline is the client's here, which has a phase of its own for it.
    using stop = this.#stopOn({ signal: options.signal });
    using open = this.#register(planned);
    const call = { signal: stop.signal, timeoutMs: options.timeoutMs };
    using permit = await this.#enter(open, stop.signal);
    if (permit === undefined) {
      const final = droppedSample(planned, this.#address);
      yield { text: "", ids: final.ids, logProbs: final.logProbs, final };
      return;
    }
    const { clock, logger, pool, router, isHealing } = this.#options;
    const failed = new Set<SGLangWorker>();
    const deltas = resumedStream(planned, {
      open: (part) => this.#openStream(part, failed, call),
      continued: (first, ids) => this.#continued(first, { ids, failed, signal: stop.signal }),
      mayGoOn: () =>
        isHealing() || router !== undefined || pool.serving.some((one) => !failed.has(one)),
      fullText: (ids) =>
        pool.onAny(({ client }) =>
          client.detokenize(ids, { skipSpecialTokens: false, signal: stop.signal })
        ),
      onResume: ({ message }, tokens) =>
        logger.warn(`${message}. The stream goes on elsewhere after ${tokens} tokens`),
      signal: stop.signal,
      clock,
    });
    yield* watchStream(this.#options.engine, planned, deltas);
  }

  /** One stream on the router or on a server that serves. */
  async *#openStream(
    planned: PlannedRequest,
    failed: Set<SGLangWorker>,
    call: { readonly signal: AbortSignal; readonly timeoutMs: number | undefined },
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    const { route, pool, report } = this.#options;
    const { request, body, unseeded } = planned;
    await this.#untilServing(call.signal);
    const router = route?.client;
    const isWhole = lostByRouter({ ...body, stream: true }).length === 0;
    if (router !== undefined && isWhole && unseeded === undefined) {
      try {
        yield* this.#listening(router.stream(request, call), undefined);
      } catch (error) {
        // The stream is opened again, then on a server.
        route!.isGoneBy(error);
        throw error;
      }
      return;
    }
    using lease = pool.lease(failed);
    const { worker } = lease;
    try {
      const request = requestFor(worker, planned);
      try {
        yield* this.#listening(worker.client.stream(request, call), worker);
      } catch (error) {
        // Said before the first token, so the stream can begin anew.
        if (!isLackOfAdapter(error, planned)) throw error;
        await this.#options.rotation.check(worker, call.signal);
        yield* this.#listening(worker.client.stream(request, call), worker);
      }
      report(worker.url, "served");
    } catch (error) {
      failed.add(worker);
      if (error instanceof UnreachableError) report(worker.url, "failed");
      throw error;
    }
  }

  /** The request for what is left of a stream that has these ids. */
  async #continued(
    { request, body, unseeded }: PlannedRequest,
    { ids, failed, signal }: {
      readonly ids: Int32Array;
      readonly failed: ReadonlySet<SGLangWorker>;
      readonly signal: AbortSignal;
    },
  ): Promise<PlannedRequest | null> {
    const wire = (body.sampling_params ?? {}) as Readonly<Record<string, unknown>>;
    const most = wire.max_new_tokens;
    const left = typeof most === "number" ? most - ids.length : undefined;
    if (left !== undefined && left <= 0) return null;
    await this.#untilServing(signal);
    using lease = this.#options.pool.lease(failed);
    const promptIds = request.inputIds ??
      await lease.worker.client.tokenize(request.text ?? "", { signal });
    const least = wire.min_new_tokens;
    const { text: _text, ...rest } = request;
    const continued = {
      ...rest,
      inputIds: Int32Array.from([...Array.from(promptIds), ...ids]),
      // As it was sent, so that no two names of one parameter meet.
      samplingParams: {
        ...wire,
        ...(left === undefined ? {} : { max_new_tokens: left }),
        ...(typeof least === "number" ? { min_new_tokens: Math.max(0, least - ids.length) } : {}),
      } as SamplingInput,
      logProbStartLen: -1,
    };
    const { samplingDefaults: defaults } = this.#options;
    const { sampling_seed: _seed, ...seedless } = continued.samplingParams as typeof wire;
    return {
      request: continued,
      body: buildRequest(continued, { defaults }).body,
      unseeded: unseeded && { ...continued, samplingParams: seedless as SamplingInput },
    };
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
    const ours = [...this.#open.values()].filter(({ planned: { request, partOf } }) =>
      rids === "all" || wanted.has(request.rid) || (partOf !== undefined && wanted.has(partOf))
    );
    for (const { planned } of ours) wanted.add(planned.request.rid);
    const onServers = rids === "all" ? rids : [...wanted];
    for (const { planned, isSent, drop } of ours) {
      // With several samples the server does not know our id and cannot abort by it.
      if (!isSent || (rids !== "all" && samplesOf(planned) > 1)) drop.abort();
    }
    const ended = Promise.all(ours.map((open) => open.ended.promise)).then(() => true);
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
    this.#closing.abort(new StateError("The engine was shut down"));
    for (const end of this.#ends) end();
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

  #run(planned: PlannedRequest, n: number, stop: AbortSignal): Promise<Generation[]> {
    const { engine, clock } = this.#options;
    const queuedAt = clock.now();
    return watchRequest(
      engine,
      planned,
      (facts) => this.#take(planned, n, stop, () => facts.queuedMs = clock.now() - queuedAt),
    );
  }

  async #take(
    planned: PlannedRequest,
    n: number,
    stop: AbortSignal,
    onTurn: () => void,
  ): Promise<Generation[]> {
    using open = this.#register(planned);
    using permit = await this.#enter(open, stop);
    onTurn();
    const dropped = () => Array.from({ length: n }, () => droppedSample(planned, this.#address));
    if (permit === undefined) return dropped();
    try {
      return await this.#send(planned, n, AbortSignal.any([stop, open.drop.signal]));
    } catch (error) {
      if (open.drop.signal.aborted && !stop.aborted) return dropped();
      throw stop.aborted ? stop.reason : error;
    }
  }

  /** Sends the samples of a prompt one by one; the first failure ends the others. */
  async #runParts(
    parts: readonly PlannedRequest[],
    stop: AbortSignal,
  ): Promise<Generation[]> {
    const failure = new AbortController();
    const either = AbortSignal.any([stop, failure.signal]);
    const settled = await Promise.allSettled(parts.map(async (part) => {
      try {
        return await this.#run(part, 1, either);
      } catch (error) {
        if (!either.aborted) failure.abort(error);
        throw error;
      }
    }));
    if (stop.aborted) throw stop.reason;
    if (failure.signal.aborted) throw failure.signal.reason;
    return settled.flatMap((one) => one.status === "fulfilled" ? one.value : []);
  }

  #register(planned: PlannedRequest): OpenRequest & Disposable {
    const { rid } = planned.request;
    if (this.#open.has(rid)) throw new ValidationError(`Request id "${rid}" is in use`);
    const open = {
      planned,
      drop: new AbortController(),
      ended: Promise.withResolvers<void>(),
      isSent: false,
      [Symbol.dispose]: () => {
        this.#open.delete(rid);
        open.ended.resolve();
      },
    };
    this.#open.set(rid, open);
    return open;
  }

  /** Waits for a turn; `undefined` when the request was aborted meanwhile. */
  async #enter(open: OpenRequest, stop: AbortSignal): Promise<Disposable | undefined> {
    try {
      const permit = await this.#gate.acquire(AbortSignal.any([stop, open.drop.signal]));
      open.isSent = true;
      return permit;
    } catch (error) {
      if (open.drop.signal.aborted && !stop.aborted) return undefined;
      throw stop.aborted ? stop.reason : error;
    }
  }

  /** Where servers come back, a request that no server answered is sent again. */
  async #send(planned: PlannedRequest, n: number, signal: AbortSignal): Promise<Generation[]> {
    const { isHealing, clock, logger } = this.#options;
    for (let again = 0;; again++) {
      try {
        return await this.#sendOnce(planned, n, signal);
      } catch (error) {
        if (signal.aborted || !isHealing() || !isBreak(error) || again === MAX_AGAIN) throw error;
        logger.warn(`${error.message}. The request is sent again`);
      }
      const delayMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** again);
      await sleep(delayMs, { signal, clock, phase: "pause before a request is sent again" });
    }
  }

  async #sendOnce(planned: PlannedRequest, n: number, signal: AbortSignal): Promise<Generation[]> {
    const { route } = this.#options;
    const router = route?.client;
    if (router === undefined) return await this.#sendToWorker(planned, n, signal);
    const lost = lostByRouter(planned.body);
    if (lost.length === 0 && planned.unseeded === undefined) {
      await this.#untilServing(signal);
      try {
        const samples = await ask(router, planned.request, n, signal);
        return this.#heard(samples, undefined);
      } catch (error) {
        if (!route!.isGoneBy(error) && !isLackOfAdapter(error, planned)) throw error;
      }
    } else if (lost.length > 0) {
      this.#options.logger.debug(`Not through the router, which would lose ${lost.join(", ")}`);
    }
    return await this.#sendToWorker(planned, n, signal);
  }

  async #sendToWorker(
    planned: PlannedRequest,
    n: number,
    signal: AbortSignal,
  ): Promise<Generation[]> {
    const { pool, logger, report } = this.#options;
    const failed = new Set<SGLangWorker>();
    const equipped = new Set<SGLangWorker>();
    for (;;) {
      await this.#untilServing(signal);
      using lease = pool.lease(failed);
      const { worker } = lease;
      try {
        const samples = await ask(worker.client, requestFor(worker, planned), n, signal);
        report(worker.url, "served");
        return this.#heard(samples, worker);
      } catch (error) {
        if (isLackOfAdapter(error, planned) && !equipped.has(worker)) {
          // It was started anew since it was last looked at: it is given its adapters, then asked again.
          equipped.add(worker);
          logger.warn(`${error.message}. It is given its adapters`);
          await this.#options.rotation.check(worker, signal);
          continue;
        }
        failed.add(worker);
        if (error instanceof UnreachableError) report(worker.url, "failed");
        const isLast = pool.serving.every((one) => failed.has(one));
        if (!(error instanceof UnreachableError)) throw error;
        if (isLast) throw worker.crash ?? error;
        logger.warn(`${error.message}. The request goes to another server`);
      }
    }
  }

  async *#listening(
    deltas: AsyncIterable<GenerationDelta>,
    member: Member | undefined,
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    for await (const delta of deltas) {
      if (delta.final !== null) this.#options.rotation.onSample(delta.final, member);
      yield delta;
    }
  }

  async #untilServing(signal: AbortSignal): Promise<void> {
    const { pool, servingTimeoutMs: timeoutMs, clock } = this.#options;
    await pool.untilServing({ signal, timeoutMs, clock });
  }

  #heard(samples: Generation[], member: Member | undefined): Generation[] {
    for (const sample of samples) this.#options.rotation.onSample(sample, member);
    return samples;
  }

  get #address(): string {
    return this.#options.router?.url ?? this.#options.pool.workers[0]!.url;
  }

  /** One signal for everything that ends a call, with the error to throw as its reason. */
  #stopOn(
    options: Pick<GenerateOptions, "signal" | "timeoutMs">,
  ): Disposable & { signal: AbortSignal; end: (error: unknown) => void } {
    const { signal, timeoutMs } = options;
    const stop = new AbortController();
    const onAbort = () => stop.abort(new AbortedError("generate", { cause: signal?.reason }));
    const onClose = () => stop.abort(this.#closing.signal.reason);
    if (signal?.aborted) onAbort();
    if (this.#closing.signal.aborted) onClose();
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#ends.add(onClose);
    const cancel = timeoutMs === undefined ? () => {} : this.#options.clock.schedule(
      timeoutMs,
      () => stop.abort(this.#timeoutError(timeoutMs)),
    );
    return {
      signal: stop.signal,
      end: (error) => stop.abort(error),
      [Symbol.dispose]: () => {
        cancel();
        signal?.removeEventListener("abort", onAbort);
        this.#ends.delete(onClose);
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

/** Whether a server says that it does not have the adapter that a request names. */
function isLackOfAdapter(error: unknown, { body }: PlannedRequest): error is HttpError {
  return body.lora_path !== undefined && error instanceof HttpError && error.status === 400 &&
    /LoRA adapter/.test(error.serverMessage);
}

/** Whether a server refused what it was asked, rather than failed. */
function isRefusal(error: unknown): boolean {
  return error instanceof HttpError && error.status >= 400 && error.status < 500 &&
    ![401, 403, 404, 408, 429].includes(error.status);
}

/** The request as a server takes it: in a mixed fleet not every server takes seeds. */
function requestFor(worker: SGLangWorker, { request, unseeded }: PlannedRequest): GenerateRequest {
  return worker.deterministic ? request : unseeded ?? request;
}

async function ask(
  client: SGLangClient,
  request: GenerateRequest,
  n: number,
  signal: AbortSignal,
): Promise<Generation[]> {
  if (n > 1) return await client.generateMany(request, { signal });
  return [await client.generate(request, { signal })];
}
