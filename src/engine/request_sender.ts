import type { SGLangClient } from "../client/client.ts";
import { buildRequest, samplingIn } from "../client/request.ts";
import type {
  GenerateRequest,
  Generation,
  GenerationDelta,
  SamplingInput,
  SamplingParams,
} from "../client/types.ts";
import { type CrashedError, HttpError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { retry } from "../internal/retry.ts";
import { messageOf } from "../internal/thrown.ts";
import { EqualPrompts } from "./equal_prompts.ts";
import type { PlannedRequest } from "./generate_plan.ts";
import type { Member } from "./member.ts";
import { Patience } from "./patience.ts";
import { type Affine, beginningsOf } from "./prefix_affinity.ts";
import { isBreak, resumedStream } from "./resumed_stream.ts";
import type { Rotation } from "./rotation.ts";
import type { RouterRoute } from "./router_route.ts";
import { lostByRouter } from "./router_rules.ts";
import type { SGLangWorker, WorkerPool } from "./workers.ts";

/** How far apart a request is sent again while servers come back. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

/** What a sender works with. */
export interface RequestSenderOptions {
  readonly pool: WorkerPool;
  /** Hears of every sample. */
  readonly rotation: Rotation;
  /** Longest wait while no server may serve. */
  readonly servingTimeoutMs: number;
  /** Longest wait for an equal prompt that was sent just before. */
  readonly equalPromptsWaitMs: number;
  /** The router in front of the servers, when there is one. */
  readonly router: SGLangClient | undefined;
  /** The way through it. */
  readonly route: RouterRoute | undefined;
  /** Sampling parameters of requests that give none. */
  readonly samplingDefaults: SamplingParams | undefined;
  /** Takes over the list of a router that others run; they know who serves. */
  readonly followRouter: ((signal: AbortSignal) => Promise<void>) | undefined;
  /** Whether servers come back: those that died, or those that wait for a sync. */
  readonly isHealing: () => boolean;
  /** Told how each request went that was sent to a server directly. */
  readonly report: (url: string, outcome: "served" | "failed") => void;
  readonly logger: Logger;
  readonly clock: Clock;
}

/**
 * Sends one request to whoever can answer it: through the router where there is one, unless it would
 * lose a part of the request, else to the server with the least to do. What no server answered goes
 * to another.
 */
export class RequestSender {
  readonly #options: RequestSenderOptions;
  readonly #equalPrompts: EqualPrompts<Member>;

  constructor(options: RequestSenderOptions) {
    this.#options = options;
    this.#equalPrompts = new EqualPrompts(options.clock, options.equalPromptsWaitMs);
  }

  /** The address that is told where no server answered. */
  get address(): string {
    return this.#options.router?.url ?? this.#options.pool.workers[0]!.url;
  }

  /** Where servers come back, a request that no server answered is sent again. */
  async send(planned: PlannedRequest, n: number, signal: AbortSignal): Promise<Generation[]> {
    const { isHealing, clock, logger } = this.#options;
    const patience = new Patience(this.#options);
    try {
      return await retry({
        retries: Infinity,
        initialDelayMs: FIRST_PAUSE_MS,
        maxDelayMs: LONGEST_PAUSE_MS,
        jitter: 0,
        shouldRetry: (error) =>
          !signal.aborted && isHealing() && isBreak(error) && patience.allows(error),
        onRetry: (error) => logger.warn(`${messageOf(error)}. The request is sent again`),
        signal,
        clock,
      }, () => this.#sendOnce(planned, n, signal));
    } catch (error) {
      throw this.#crashBehind(error) ?? error;
    }
  }

  /** Sends a request as a stream, which goes on elsewhere where its server ends. */
  stream(
    planned: PlannedRequest,
    sending: { readonly signal: AbortSignal; readonly timeoutMs: number | undefined },
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    const { clock, logger, pool, router, isHealing } = this.#options;
    const failed = new Set<SGLangWorker>();
    return resumedStream(planned, {
      open: (part) => this.#openStream(part, failed, sending),
      continued: (first, ids) => this.#continued(first, { ids, failed, signal: sending.signal }),
      patience: new Patience(this.#options),
      mayGoOn: () =>
        isHealing() || router !== undefined || pool.serving.some((one) => !failed.has(one)),
      fullText: (ids) =>
        pool.onAny(({ client }) =>
          client.detokenize(ids, { skipSpecialTokens: false, signal: sending.signal })
        ),
      onResume: ({ message }, tokens) =>
        logger.warn(`${message}. The stream goes on elsewhere after ${tokens} tokens`),
      signal: sending.signal,
      clock,
    });
  }

  /** How the process ended that a request was lost on, where that is known. */
  #crashBehind(error: unknown): CrashedError | undefined {
    if (!(error instanceof UnreachableError)) return undefined;
    return this.#options.pool.find(error.url)?.crash;
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
        const isWithoutAnswer = route!.isWithoutAnswer(error);
        if (!isWithoutAnswer && !isLackOfAdapter(error, planned)) throw error;
        if (isWithoutAnswer) await this.#followRouter(error, signal);
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
    const affine = affinityOf(planned);
    const beginnings = beginningsOf(affine);
    for (;;) {
      await this.#untilServing(signal);
      using lease = pool.lease(failed, beginnings);
      const { worker } = lease;
      using turn = await this.#equalPrompts.turn(worker, affine, beginnings, signal);
      try {
        const samples = await ask(worker.client, requestFor(worker, planned), n, signal);
        report(worker.url, "served");
        if (samples[0] !== undefined) turn.answered(samples[0]);
        return this.#heard(samples, worker);
      } catch (error) {
        if (isLackOfAdapter(error, planned) && !equipped.has(worker)) {
          // It was started anew since it was last looked at: it is given its adapters, then asked again.
          equipped.add(worker);
          logger.warn(`${error.message}. It is given its adapters`);
          await this.#options.rotation.check(worker, signal);
          continue;
        }
        if (!(error instanceof UnreachableError)) throw error;
        failed.add(worker);
        report(worker.url, "failed");
        if (pool.serving.every((one) => failed.has(one))) throw error;
        logger.warn(`${error.message}. The request goes to another server`);
      }
    }
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
        if (!route!.isWithoutAnswer(error)) throw error;
        await this.#followRouter(error, call.signal);
        await this.#untilServing(call.signal);
      }
    }
    const affine = affinityOf(planned);
    const beginnings = beginningsOf(affine);
    using lease = pool.lease(failed, beginnings);
    const { worker } = lease;
    using _turn = await this.#equalPrompts.turn(worker, affine, beginnings, call.signal);
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

  async *#listening(
    deltas: AsyncIterable<GenerationDelta>,
    member: Member | undefined,
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    for await (const delta of deltas) {
      if (delta.final !== null) this.#options.rotation.onSample(delta.final, member);
      yield delta;
    }
  }

  /**
   * Before a request goes past a router that lost its servers: one that died may answer again at its
   * address, with old weights, while those who run the router bring it up to date.
   */
  async #followRouter(error: unknown, signal: AbortSignal): Promise<void> {
    if (error instanceof HttpError) await this.#options.followRouter?.(signal);
  }

  async #untilServing(signal: AbortSignal): Promise<void> {
    const { pool, servingTimeoutMs: timeoutMs, clock } = this.#options;
    await pool.untilServing({ signal, timeoutMs, clock });
  }

  #heard(samples: Generation[], member: Member | undefined): Generation[] {
    for (const sample of samples) this.#options.rotation.onSample(sample, member);
    return samples;
  }
}

/** Whether a server says that it does not have the adapter that a request names. */
function isLackOfAdapter(error: unknown, { body }: PlannedRequest): error is HttpError {
  return body.lora_path !== undefined && error instanceof HttpError && error.status === 400 &&
    /LoRA adapter/.test(error.serverMessage);
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
