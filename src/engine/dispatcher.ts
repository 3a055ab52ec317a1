import type { SGLangClient } from "../client/client.ts";
import { buildRequest, samplingIn } from "../client/request.ts";
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
  StateError,
  TimeoutError,
  UnreachableError,
  ValidationError,
} from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { retry } from "../internal/retry.ts";
import { Semaphore } from "../internal/semaphore.ts";
import { messageOf } from "../internal/thrown.ts";
import type { GenerateOptions } from "./engine.ts";
import { type BegunRequest, GenerateCall, OpenCall } from "./generate_call.ts";
import { type GeneratePlan, type PlannedRequest, samplesOf } from "./generate_plan.ts";
import { droppedSample } from "./dropped_sample.ts";
import { madeBy } from "./made_by.ts";
import { isBreak, resumedStream } from "./resumed_stream.ts";
import { lostByRouter } from "./router_rules.ts";
import type { Member } from "./member.ts";
import type { Affine } from "./prefix_affinity.ts";
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

/** A request between its turn and its answer. */
interface OpenRequest extends Disposable {
  readonly planned: PlannedRequest;
  /** Fires when it has to end; the reason is the error, none where it was dropped. */
  readonly signal: AbortSignal;
  /** Ends it with an error. */
  readonly end: (error: unknown) => void;
  /** Ends the request without an answer of the server: its samples are empty and aborted. */
  readonly drop: () => void;
  isDropped: boolean;
  /** Resolves when the call has its answer or its error. */
  readonly ended: Promise<void>;
  isSent: boolean;
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
 * Sends requests one by one and all at once: each is its own HTTP request, first come, first
 * served, with a limit on how many are in flight. Through the router where there is one, unless it
 * would lose a part of the request.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #gate: Semaphore;
  /** Calls that still have prompts to send; the first in the line sends, so that none overtakes. */
  readonly #line = new Semaphore(1);
  readonly #open = new Map<string, OpenRequest>();
  readonly #closing = new AbortController();
  /** Calls under way: taking a listener off a signal that has thousands is slow. */
  readonly #calls = new Set<OpenCall>();
  /** Ids that callers gave for prompts of calls under way. */
  readonly #reserved = new Set<string>();
  /** Requests that were begun and wait for their turn. */
  #unsent = 0;
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
    let left = this.#unsent;
    for (const call of this.#calls) left += call.left;
    return left;
  }

  /**
   * Sends every request of a plan; samples come in the order of the prompts. The first failure, the
   * deadline and the caller's signal end the others, on the servers too.
   */
  async generate(plan: GeneratePlan, options: GenerateOptions): Promise<Generation[]> {
    using _rids = this.#reserve(plan.rids);
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
    using _rid = this.#reserve(new Set([planned.request.rid]));
    using open = this.#register(planned, call);
    const sending = { signal: open.signal, timeoutMs: options.timeoutMs };
    using permit = await this.#enter(open, this.#line.acquire(open.signal), true);
    if (permit === undefined) {
      const final = droppedSample(planned, this.#address);
      yield { text: "", ids: final.ids, logProbs: final.logProbs, final };
      return;
    }
    const { clock, logger, pool, router, isHealing } = this.#options;
    const failed = new Set<SGLangWorker>();
    const deltas = resumedStream(planned, {
      open: (part) => this.#openStream(part, failed, sending),
      continued: (first, ids) => this.#continued(first, { ids, failed, signal: open.signal }),
      mayGoOn: () =>
        isHealing() || router !== undefined || pool.serving.some((one) => !failed.has(one)),
      fullText: (ids) =>
        pool.onAny(({ client }) =>
          client.detokenize(ids, { skipSpecialTokens: false, signal: open.signal })
        ),
      onResume: ({ message }, tokens) =>
        logger.warn(`${message}. The stream goes on elsewhere after ${tokens} tokens`),
      signal: open.signal,
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
        return yield* this.#listening(router.stream(request, call), undefined);
      } catch (error) {
        // Known before the first token, so the stream can begin on a server.
        if (!route!.hasPassedToNobody(error)) throw error;
        await this.#untilServing(call.signal);
      }
    }
    using lease = pool.lease(failed, affinityOf(planned));
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
    const wire = samplingIn(body);
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
    const { engine, clock } = this.#options;
    const { planned, plan, place, begunAt } = begun;
    const open = this.#register(planned, call);
    const permit = this.#enter(open, place, false);
    const samples = watchRequest(engine, planned, async (facts) => {
      using _open = open;
      using permitted = await permit;
      facts.queuedMs = clock.now() - begunAt;
      if (permitted === undefined) return this.#dropped(planned, { ...plan, n });
      try {
        const samples = await this.#send(planned, n, open.signal);
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
    return Array.from({ length: n }, () => madeBy(adapter, droppedSample(planned, this.#address)));
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

  /** Keeps the ids that a caller gave for its prompts. */
  #reserve(rids: ReadonlySet<string> = new Set()): Disposable {
    for (const rid of rids) {
      if (this.#open.has(rid) || this.#reserved.has(rid)) {
        throw new ValidationError(`Request id "${rid}" is in use`);
      }
    }
    for (const rid of rids) this.#reserved.add(rid);
    return {
      [Symbol.dispose]: () => {
        for (const rid of rids) this.#reserved.delete(rid);
      },
    };
  }

  #register(planned: PlannedRequest, call: OpenCall): OpenRequest {
    const { rid } = planned.request;
    if (this.#open.has(rid)) throw new ValidationError(`Request id "${rid}" is in use`);
    const controller = new AbortController();
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const end = (error: unknown) => controller.abort(error);
    this.#unsent++;
    const open: OpenRequest = {
      planned,
      signal: controller.signal,
      end,
      ended,
      drop: () => {
        // What was dropped or ended before stays so.
        if (controller.signal.aborted) return;
        open.isDropped = true;
        controller.abort();
      },
      isDropped: false,
      isSent: false,
      [Symbol.dispose]: () => {
        if (!open.isSent) this.#unsent--;
        call.ends.delete(end);
        this.#open.delete(rid);
        resolve();
      },
    };
    call.ends.add(end);
    if (call.signal.aborted) end(call.signal.reason);
    this.#open.set(rid, open);
    return open;
  }

  /**
   * Waits for its call's place in the line, then for a turn; `undefined` when the request was
   * aborted meanwhile. `leaves` the line with its turn.
   */
  async #enter(
    open: OpenRequest,
    place: Promise<Disposable>,
    leaves: boolean,
  ): Promise<Disposable | undefined> {
    const { signal } = open;
    try {
      signal.throwIfAborted();
      await orAborted(place, signal);
      const permit = await this.#gate.acquire(signal);
      open.isSent = true;
      this.#unsent--;
      return permit;
    } catch (error) {
      if (open.isDropped) return undefined;
      throw signal.aborted ? signal.reason : error;
    } finally {
      // Also where the place came in the moment in which the request ended.
      if (leaves) place.then((one) => one[Symbol.dispose](), () => {});
    }
  }

  /** Where servers come back, a request that no server answered is sent again. */
  async #send(planned: PlannedRequest, n: number, signal: AbortSignal): Promise<Generation[]> {
    const { isHealing, clock, logger } = this.#options;
    return await retry({
      retries: MAX_AGAIN,
      initialDelayMs: FIRST_PAUSE_MS,
      maxDelayMs: LONGEST_PAUSE_MS,
      jitter: 0,
      shouldRetry: (error) => !signal.aborted && isHealing() && isBreak(error),
      onRetry: (error) => logger.warn(`${messageOf(error)}. The request is sent again`),
      signal,
      clock,
    }, () => this.#sendOnce(planned, n, signal));
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
        if (!route!.hasPassedToNobody(error) && !isLackOfAdapter(error, planned)) throw error;
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
      using lease = pool.lease(failed, affinityOf(planned));
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

/** What says which server may have the beginning of a prompt in its cache. */
function affinityOf({ request, body }: PlannedRequest): Affine {
  const { lora_path, extra_key, cache_salt, session_id } = body;
  const scopes = [lora_path, extra_key, cache_salt].filter((one) => one !== undefined);
  return {
    prompt: request.text ?? request.inputIds ?? "",
    session: typeof session_id === "string" ? session_id : undefined,
    scope: scopes.length === 0 ? undefined : JSON.stringify(scopes),
  };
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
