import type { SGLangClient } from "../client/client.ts";
import type { Generation, GenerationDelta } from "../client/types.ts";
import { AbortedError, StateError, TimeoutError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { Semaphore } from "../internal/semaphore.ts";
import type { GenerateOptions } from "./engine.ts";
import type { GeneratePlan, PlannedRequest } from "./generate_plan.ts";
import { lostByRouter } from "./router_rules.ts";
import type { SGLangWorker, WorkerPool } from "./workers.ts";

/** What a dispatcher works with. */
export interface DispatcherOptions {
  readonly pool: WorkerPool;
  /** The router in front of the servers, when there is one. */
  readonly router: SGLangClient | undefined;
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
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#gate = new Semaphore(options.maxConcurrency);
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
        const samples = await this.#run(planned, plan.n, stop.signal);
        done++;
        options.onProgress?.({ done, total });
        return samples;
      } catch (error) {
        stop.end(error);
        throw error;
      }
    });
    const settled = await this.#tracked(Promise.allSettled(runs));
    if (stop.signal.aborted) throw stop.signal.reason;
    return settled.flatMap((run) => (run as PromiseFulfilledResult<Generation[]>).value);
  }

  /** Sends one request as a stream. */
  async *stream(
    planned: PlannedRequest,
    options: GenerateOptions,
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    // The deadline is the client's here: it limits each wait, not how long the caller takes.
    using stop = this.#stopOn({ signal: options.signal });
    const call = { signal: stop.signal, timeoutMs: options.timeoutMs };
    using _permit = await this.#gate.acquire(stop.signal);
    const { router, pool } = this.#options;
    if (router !== undefined && lostByRouter({ ...planned.body, stream: true }).length === 0) {
      yield* router.stream(planned.request, call);
      return;
    }
    using lease = pool.lease();
    yield* lease.worker.client.stream(planned.request, call);
  }

  /** Ends requests that were not sent yet; they count as aborted samples without tokens. */
  dropQueued(rids: readonly string[] | "all"): void {
    const chosen = rids === "all" ? this.#open.keys() : rids;
    for (const rid of [...chosen]) {
      const open = this.#open.get(rid);
      if (open === undefined) continue;
      // With several samples the server does not know our id and cannot abort by it.
      const sampling = open.planned.body.sampling_params as { n?: number };
      if (!open.isSent || (rids !== "all" && (sampling.n ?? 1) > 1)) open.drop.abort();
    }
  }

  /** Ends everything; later calls are refused. */
  close(): void {
    this.#closing.abort(new StateError("The engine was shut down"));
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

  async #run(planned: PlannedRequest, n: number, stop: AbortSignal): Promise<Generation[]> {
    const { rid } = planned.request;
    const open: OpenRequest = { planned, drop: new AbortController(), isSent: false };
    this.#open.set(rid, open);
    const signal = AbortSignal.any([stop, open.drop.signal]);
    try {
      using _permit = await this.#gate.acquire(signal);
      open.isSent = true;
      return await this.#send(planned, n, signal);
    } catch (error) {
      if (open.drop.signal.aborted && !stop.aborted) return this.#droppedSamples(planned, n);
      throw error;
    } finally {
      this.#open.delete(rid);
    }
  }

  async #send(planned: PlannedRequest, n: number, signal: AbortSignal): Promise<Generation[]> {
    const { router } = this.#options;
    if (router === undefined) return await this.#sendToWorker(planned, n, signal);
    const lost = lostByRouter(planned.body);
    if (lost.length === 0) return await ask(router, planned, n, signal);
    this.#options.logger.debug(`Not through the router, which would lose ${lost.join(", ")}`);
    return await this.#sendToWorker(planned, n, signal);
  }

  async #sendToWorker(
    planned: PlannedRequest,
    n: number,
    signal: AbortSignal,
  ): Promise<Generation[]> {
    const { pool, logger } = this.#options;
    const failed = new Set<SGLangWorker>();
    for (;;) {
      using lease = pool.lease(failed);
      const { worker } = lease;
      try {
        return await ask(worker.client, planned, n, signal);
      } catch (error) {
        failed.add(worker);
        const isLast = failed.size === pool.workers.length;
        if (!(error instanceof UnreachableError)) throw error;
        if (isLast) throw pool.crashOf(worker) ?? error;
        logger.warn(`${error.message}. The request goes to another server`);
      }
    }
  }

  #droppedSamples(planned: PlannedRequest, n: number): Generation[] {
    const { request, body } = planned;
    const noLogProbs = body.return_logprob === true ? new Float32Array(0) : null;
    const sample: Generation = {
      text: "",
      ids: new Int32Array(0),
      logProbs: noLogProbs,
      promptIds: request.inputIds === undefined ? null : Int32Array.from(request.inputIds),
      promptLogProbs: null,
      topLogProbs: null,
      promptTopLogProbs: null,
      tokenIdsLogProbs: null,
      promptTokenIdsLogProbs: null,
      finishReason: { type: "abort", message: "Aborted by this engine", statusCode: null },
      weightVersion: null,
      weightVersions: null,
      promptTokens: null,
      completionTokens: 0,
      cachedTokens: null,
      id: request.rid,
      server: this.#options.router?.url ?? this.#options.pool.workers[0]!.url,
      latencyMs: 0,
      serverLatencyMs: null,
      meta: {},
    };
    return Array.from({ length: n }, () => sample);
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
    this.#closing.signal.addEventListener("abort", onClose, { once: true });
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
        this.#closing.signal.removeEventListener("abort", onClose);
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

async function ask(
  client: SGLangClient,
  planned: PlannedRequest,
  n: number,
  signal: AbortSignal,
): Promise<Generation[]> {
  if (n > 1) return await client.generateMany(planned.request, { signal });
  return [await client.generate(planned.request, { signal })];
}
