import {
  AbortedError,
  HttpError,
  PausedError,
  ProtocolError,
  TimeoutError,
  ValidationError,
} from "../errors.ts";
import { withDeadline } from "../internal/deadline.ts";
import { checkDemandingFields, demandingFields } from "./capabilities.ts";
import { parseGeneration } from "./generation.ts";
import { buildRequest, checkVocabulary, holdsIds, type WireRequest } from "./request.ts";
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
    const { value, latencyMs } = await this.#post(wire, options);
    return this.#parse(value, wire, latencyMs);
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
   * @param options `timeoutMs` limits the wait for each part of the stream; default
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
    const stop = new AbortController();
    let mayRun = true;
    try {
      const call = this.#call({ ...wire.body, stream: true }, options);
      const onLost = () => this.abandon(wire.rid);
      const body = await this.connection.open({ ...call, onLost }, stop.signal);
      for await (const event of readEvents(this.#withReadDeadlines(body, options))) {
        const delta = assembler.add(event, this.clock.now() - started);
        mayRun = delta.final === null;
        yield delta;
        if (!mayRun) return;
      }
      throw new ProtocolError(`The stream of ${this.url} ended before the generation did`);
    } catch (error) {
      // The server answered with an error: there is nothing left to abort.
      if (error instanceof HttpError) mayRun = false;
      throw this.#explain(this.connection.classify({ method: "POST", path: "/generate" }, error));
    } finally {
      stop.abort();
      if (mayRun) await this.abandon(wire.rid);
    }
  }

  async #build(request: GenerateRequest, options: CallOptions): Promise<WireRequest> {
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
  ): Promise<{ value: unknown; latencyMs: number }> {
    const started = this.clock.now();
    try {
      const call = this.#call(wire.body, options);
      const onLost = () => this.abandon(wire.rid);
      const value = await this.connection.json({ ...call, onLost });
      return { value, latencyMs: this.clock.now() - started };
    } catch (error) {
      const isCancelled = error instanceof AbortedError || error instanceof TimeoutError;
      // The server notices a closed connection only seconds later.
      if (isCancelled) await this.abandon(wire.rid);
      throw this.#explain(error);
    }
  }

  #call(body: Readonly<Record<string, unknown>>, options: CallOptions) {
    return {
      method: "POST",
      path: "/generate",
      body,
      phase: "generate",
      timeoutMs: options.timeoutMs ?? this.settings.generateTimeoutMs,
      hint: PAUSED_HINT,
      signal: options.signal,
      retries: this.settings.retry.retries,
    } as const;
  }

  #parse(value: unknown, wire: WireRequest, latencyMs: number): Generation {
    return parseGeneration(value, { ...this.#context(wire), latencyMs });
  }

  #context(wire: WireRequest) {
    return {
      server: this.url,
      promptIds: wire.promptIds,
      wantsLogProbs: wire.body.return_logprob === true,
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

  #withReadDeadlines(
    body: ReadableStream<Uint8Array>,
    options: CallOptions,
  ): ReadableStream<Uint8Array> {
    const reader = body.getReader();
    const wait = {
      phase: "stream",
      timeoutMs: options.timeoutMs ?? this.settings.generateTimeoutMs,
      peer: this.url,
      hint: PAUSED_HINT,
      signal: options.signal,
      clock: this.clock,
    };
    return new ReadableStream({
      async pull(controller) {
        const { done, value } = await withDeadline(wait, () => reader.read());
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    }, { highWaterMark: 0 });
  }
}
