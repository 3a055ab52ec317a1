import { checkCallOptions } from "./call_options.ts";
import {
  AbortedError,
  HttpError,
  LimitError,
  PausedError,
  ProtocolError,
  TimeoutError,
  UnreachableError,
  ValidationError,
} from "../errors.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { checkDemandingFields, demandingFields } from "./capabilities.ts";
import { parseGeneration } from "./generation.ts";
import type { HttpCall } from "./http.ts";
import { generateBytes } from "./limits.ts";
import { buildRequest, checkVocabulary, holdsIds, type WireRequest } from "./request.ts";
import { SentRid } from "./sent_rid.ts";
import { readEvents } from "./sse.ts";
import { StreamAssembler } from "./stream.ts";
import type { CallOptions, GenerateRequest, Generation, GenerationDelta } from "./types.ts";
import { WeightControl } from "./weight_control.ts";

const PAUSED_HINT = "A paused server answers only after it is resumed";

/**
 * One SGLang server over HTTP: generation here, everything that inspects or changes the server in
 * {@linkcode ServerControl} and {@linkcode WeightControl}.
 *
 * Needs `--allow-net=<host>:<port>` of the server, nothing else.
 *
 * @example
 * ```ts
 * import { SGLangClient } from "@sglang-rl/sglang-rl/client";
 *
 * await using client = new SGLangClient({ url: "http://127.0.0.1:30000" });
 * const sample = await client.generate({
 *   text: "The capital of France is",
 *   samplingParams: { maxNewTokens: 8, temperature: 0 },
 *   returnLogProbs: true,
 * });
 * // sample.text, sample.ids (Int32Array), sample.logProbs (Float32Array)
 * ```
 */
export class SGLangClient extends WeightControl {
  /**
   * Generates one sample for one prompt.
   *
   * Cancelling aborts the request on the server too. Sent again after a lost connection or a
   * temporary refusal (429, 502, 503, 504) as often as the `retries` of the client say.
   *
   * @param options Deadline by default `generateTimeoutMs` of the client (30 minutes).
   * @throws {ValidationError} Something is wrong with the request; nothing was sent.
   * @throws {HttpError} The server refused. An aborted sample is no error: see `finishReason`.
   */
  async generate(request: GenerateRequest, options: CallOptions = {}): Promise<Generation> {
    const wire = await this.#build(request, options);
    if (wire.n > 1) {
      throw new ValidationError(
        `generate() makes one sample, got n = ${wire.n}: use generateMany()`,
      );
    }
    const { value, latencyMs, sent } = await this.#post(wire, options);
    return sent.named(this.#parse(value, wire, latencyMs));
  }

  /**
   * Generates `samplingParams.n` samples for one prompt in one request; the server shares their
   * prompt. The server does not know the request's id then: cancelling ends it seconds later.
   *
   * @throws {ValidationError} Something is wrong with the request; nothing was sent.
   */
  async generateMany(request: GenerateRequest, options: CallOptions = {}): Promise<Generation[]> {
    const wire = await this.#build(request, options);
    const { value, latencyMs } = await this.#post(wire, options);
    const answers = Array.isArray(value) ? value : [value];
    if (answers.length !== wire.n) {
      throw new ProtocolError(`Asked ${this.url} for ${wire.n} samples, got ${answers.length}`);
    }
    return answers.map((answer) => this.#parse(answer, wire, latencyMs));
  }

  /**
   * Posts a body to `/generate` as it is and returns the answer as it is. Checks nothing: token ids
   * outside the vocabulary end the server.
   */
  async generateRaw(
    body: Readonly<Record<string, unknown>>,
    options: CallOptions = {},
  ): Promise<unknown> {
    return await this.connection.json(this.#call(body, options));
  }

  /**
   * Generates one sample as an async iterator of steps; the last has `final` set. Leaving the loop
   * early aborts the request on the server.
   *
   * @param options `timeoutMs` limits the whole stream, the time that the loop takes too; default
   * `generateTimeoutMs` of the client.
   * @throws {HttpError} The server refused, before or within the stream.
   */
  async *stream(
    request: GenerateRequest,
    options: CallOptions = {},
  ): AsyncGenerator<GenerationDelta, void, undefined> {
    const wire = await this.#build(request, options);
    if (wire.n > 1) throw new ValidationError(`stream() makes one sample, got n = ${wire.n}`);
    const { streamMode } = await this.capabilities(options);
    const started = this.clock.now();
    const assembler = new StreamAssembler(streamMode, this.#context(wire));
    const { answer: eventBytes, stream } = generateBytes(
      wire.body,
      this.settings.limits.generateBytes,
    );
    const streamBytes = streamMode === "incremental" ? stream : Infinity;
    using end = this.#endOfStream(options);
    const sent = new SentRid(wire);
    let mayRun = true;
    try {
      using answer = await this.connection.open({
        ...this.#call({ ...wire.body, stream: true }, options, sent),
        // The head and the events have one deadline together.
        signal: end.signal,
        timeoutMs: Infinity,
      }, end.signal);
      for await (const event of readEvents(() => answer.read(), { eventBytes, streamBytes })) {
        const delta = assembler.add(event, this.clock.now() - started);
        mayRun = delta.final === null;
        yield mayRun ? delta : { ...delta, final: sent.named(delta.final!) };
        if (!mayRun) return;
      }
      throw new ProtocolError(`The stream of ${this.url} ended before the generation did`);
    } catch (error) {
      // The server answered with an error: there is nothing left to abort.
      if (error instanceof HttpError) mayRun = false;
      if (error instanceof UnreachableError && !end.signal.aborted) {
        mayRun = false;
        // Whoever goes on with it elsewhere does so under its id, which an abort that came late
        // would end there.
        const isTaken = error.reason !== "refused";
        if (isTaken) await orAborted(this.abandonLater(sent.rid), end.signal).catch(() => {});
      }
      throw this.#explain(end.signal.aborted ? end.signal.reason : withServer(error, this.url));
    } finally {
      if (mayRun) void this.abandonLater(sent.rid);
    }
  }

  async #build(request: GenerateRequest, options: CallOptions): Promise<WireRequest> {
    checkCallOptions(options);
    const wire = buildRequest(request, { defaults: this.samplingDefaults });
    if (holdsIds(wire.body)) checkVocabulary(wire.body, await this.vocabSize(options));
    for (const warning of wire.warnings) this.logger.warn(warning);
    const demanding = demandingFields(wire.body);
    if (demanding.length > 0) checkDemandingFields(demanding, await this.capabilities(options));
    return wire;
  }

  async #post(
    wire: WireRequest,
    options: CallOptions,
  ): Promise<{ value: unknown; latencyMs: number; sent: SentRid }> {
    const started = this.clock.now();
    const sent = new SentRid(wire);
    try {
      const value = await this.connection.json(this.#call(wire.body, options, sent));
      return { value, latencyMs: this.clock.now() - started, sent };
    } catch (error) {
      const isLeft = error instanceof AbortedError || error instanceof TimeoutError ||
        error instanceof LimitError;
      // The server notices a closed connection only seconds later.
      if (isLeft) void this.abandonLater(sent.rid);
      throw this.#explain(error);
    }
  }

  #call(body: Readonly<Record<string, unknown>>, options: CallOptions, sent?: SentRid): HttpCall {
    const { answer: bytes } = generateBytes(body, this.settings.limits.generateBytes);
    return {
      method: "POST",
      path: "/generate",
      body: (attempt) => sent === undefined ? body : { ...body, rid: sent.forAttempt(attempt) },
      phase: "generate",
      timeoutMs: options.timeoutMs ?? this.settings.generateTimeoutMs,
      hint: PAUSED_HINT,
      signal: options.signal,
      maxBytes: { name: "limits.generateBytes", bytes },
      retries: this.settings.retry.retries,
      onLost: sent === undefined ? undefined : () => this.abandon(sent.rid),
    };
  }

  /** The signal of a stream: it fires with the caller's, and at the deadline of the whole stream. */
  #endOfStream(options: CallOptions): Disposable & { readonly signal: AbortSignal } {
    const { signal, timeoutMs = this.settings.generateTimeoutMs } = options;
    const end = new AbortController();
    const onAbort = () => end.abort(new AbortedError("stream", { cause: signal?.reason }));
    if (signal?.aborted) onAbort();
    signal?.addEventListener("abort", onAbort, { once: true });
    const peer = this.url;
    const cancel = this.clock.schedule(timeoutMs, () => {
      end.abort(new TimeoutError({ phase: "stream", timeoutMs, peer, hint: PAUSED_HINT }));
    });
    return {
      signal: end.signal,
      [Symbol.dispose]: () => {
        cancel();
        signal?.removeEventListener("abort", onAbort);
      },
    };
  }

  #parse(value: unknown, wire: WireRequest, latencyMs: number): Generation {
    return parseGeneration(value, { ...this.#context(wire), latencyMs });
  }

  #context(wire: WireRequest) {
    return {
      server: this.url,
      promptIds: wire.promptIds,
      wantsLogProbs: wire.body.return_logprob === true,
      routedExpertsStart: wire.body.return_routed_experts === true
        ? Number(wire.body.routed_experts_start_len ?? 0)
        : undefined,
    };
  }

  #explain(error: unknown): unknown {
    if (!(error instanceof TimeoutError) || !this.isPaused) return error;
    return new PausedError(
      `${this.url} did not answer in ${error.timeoutMs} ms: it was paused by this client and not ` +
        "resumed. Call resume()",
      { cause: error },
    );
  }
}

/** A limit that was met in a stream, with the address of the server in its message. */
function withServer(error: unknown, server: string): unknown {
  if (!(error instanceof LimitError)) return error;
  const { limit, max, message, cause } = error;
  if (message.includes(server)) return error;
  return new LimitError(`POST /generate at ${server}: ${message}`, { limit, max, cause });
}
