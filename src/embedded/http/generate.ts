/** `POST /generate`. */
import type { EmbeddedState } from "../state.ts";
import type { Task } from "../scheduler/task.ts";
import { type AnswerContext, answerOf } from "./answer.ts";
import { RefusedAdapter } from "../adapters/adapter.ts";
import { ApiError, formError, valueError } from "./api_error.ts";
import { type ParsedBody, parseGenerateBody } from "./generate_request.ts";
import { jsonBody } from "./json_body.ts";

const eventStream = { "content-type": "text/event-stream; charset=utf-8" };

/** Answers `/generate`. */
export async function generate(request: Request, state: EmbeddedState): Promise<Response> {
  if (state.faults.take("unavailable")) {
    throw new ApiError(503, {
      object: "error",
      message: "The request queue is full.",
      type: "503",
      param: null,
      code: 503,
    });
  }
  const dropped = state.faults.take("dropConnections");
  const body = await jsonBody(request);
  let parsed: ParsedBody;
  let adapters: TakenAdapters;
  try {
    parsed = parseGenerateBody(body, state.bodyContext());
    adapters = await takeAdapters(parsed, state);
  } catch (error) {
    if (error instanceof ApiError && error.isPastGate) {
      (await state.enterGeneration())[Symbol.dispose]();
    }
    if (wantsStream(body) && error instanceof ApiError && isValueError(error)) {
      return streamedError(error);
    }
    throw error;
  }
  const call = { state, dropped, adapters };
  try {
    const work = { ...parsed, requests: adapters.requests };
    return parsed.stream ? await stream(work, call) : await whole(work, call);
  } catch (error) {
    adapters[Symbol.dispose]();
    throw error;
  }
}

/** The requests with their adapters, which stay loaded until disposed. */
interface TakenAdapters extends Disposable {
  readonly requests: ParsedBody["requests"];
}

async function takeAdapters(parsed: ParsedBody, state: EmbeddedState): Promise<TakenAdapters> {
  using taken = new DisposableStack();
  const requests = [];
  for (const [i, request] of parsed.requests.entries()) {
    const name = parsed.adapters[i] ?? null;
    if (name === null) {
      requests.push(request);
      continue;
    }
    const adapter = await acquired(name, state);
    taken.use(adapter);
    requests.push({ ...request, adapter: adapter.matrices });
  }
  const held = taken.move();
  return { requests, [Symbol.dispose]: () => held.dispose() };
}

async function acquired(name: string, { adapters }: EmbeddedState) {
  if (adapters === null) {
    throw valueError(
      `LoRA adapter '${name}' was requested, but LoRA is not enabled. Please launch the server with ` +
        "--enable-lora flag and preload adapters using --lora-paths or /load_lora_adapter endpoint.",
    );
  }
  try {
    return await adapters.acquire(name);
  } catch (error) {
    throw error instanceof RefusedAdapter ? valueError(error.message) : error;
  }
}

interface Call {
  readonly state: EmbeddedState;
  readonly dropped: boolean;
  readonly adapters: TakenAdapters;
}

async function whole(
  parsed: ParsedBody,
  { state, dropped, adapters }: Call,
): Promise<Response> {
  using _adapters = adapters;
  using _ = await state.enterGeneration();
  if (parsed.n > 1) await fillCache(parsed, state);
  const tasks = parsed.requests.map((request) => state.submit(request));
  await Promise.all(tasks.map((task) => task.done));
  const answers = tasks.map((task) => answerOf(task, answerContext(parsed, state)));
  state.release(tasks);
  const text = JSON.stringify(parsed.isBatch ? answers : answers[0]);
  return dropped
    ? brokenAnswer(text)
    : new Response(text, { headers: { "content-type": "application/json" } });
}

/** Before several samples the real server runs each prompt once, so that they share its cache. */
async function fillCache(parsed: ParsedBody, state: EmbeddedState): Promise<void> {
  const tasks = parsed.requests.filter((_, i) => i % parsed.n === 0).map((request) =>
    state.submit({
      ...request,
      rid: crypto.randomUUID(),
      returnLogProbs: false,
      logProbStart: request.promptIds.length,
      sampling: { ...request.sampling, maxNewTokens: 0, minNewTokens: 0 },
    })
  );
  await Promise.all(tasks.map((task) => task.done));
  state.release(tasks);
}

async function stream(
  parsed: ParsedBody,
  { state, dropped, adapters }: Call,
): Promise<Response> {
  const permit = await state.enterGeneration();
  if (parsed.n > 1) await fillCache(parsed, state);
  const tasks = parsed.requests.map((request) => state.submit(request));
  const encoder = new TextEncoder();
  const events = merged(tasks.map((task, i) =>
    eventsOf(task, {
      ...answerContext(parsed, state),
      index: parsed.isBatch ? i : undefined,
    })
  ));
  const leave = () => {
    state.release(tasks);
    permit[Symbol.dispose]();
    adapters[Symbol.dispose]();
  };
  const bytes = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const next = await events.next();
      if (next.done === true) {
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
        controller.close();
        leave();
        return;
      }
      controller.enqueue(encoder.encode(`data: ${JSON.stringify(next.value)}\n\n`));
      if (dropped) {
        controller.close();
        state.abort(tasks);
        leave();
      }
    },
    cancel() {
      // The real server notices within seconds that a client went away, and aborts.
      state.abort(tasks);
      leave();
    },
  }, { highWaterMark: 0 });
  return new Response(bytes, {
    headers: dropped ? { ...eventStream, "content-length": "1000000" } : eventStream,
  });
}

function answerContext(parsed: ParsedBody, state: EmbeddedState): AnswerContext {
  return {
    tokenizer: state.tokenizer,
    tellsSpans: state.emulated.tellsSpans,
    returnPromptIds: parsed.returnPromptIds,
    spoilLogProbs: state.faults.take("wrongLogProbCounts"),
  };
}

/** The states of a task, one for each `stream_interval` tokens; steps that nobody saw are skipped. */
async function* eventsOf(
  task: Task,
  context: AnswerContext,
): AsyncGenerator<Record<string, unknown>> {
  const { streamInterval } = task.request.sampling;
  let shown = 0;
  for (;;) {
    const ended = task.finish !== null;
    if (ended || task.outputLength - shown >= streamInterval) {
      shown = task.outputLength;
      yield answerOf(task, context);
      if (ended) return;
      continue;
    }
    await task.changed;
  }
}

/** Values of several generators, in the order in which they come. */
async function* merged<T>(sources: readonly AsyncGenerator<T>[]): AsyncGenerator<T> {
  const pending = new Map(sources.map((source, i) => [i, step(source, i)]));
  while (pending.size > 0) {
    const { index, result } = await Promise.race(pending.values());
    if (result.done === true) {
      pending.delete(index);
      continue;
    }
    yield result.value;
    pending.set(index, step(sources[index]!, index));
  }
}

async function step<T>(
  source: AsyncGenerator<T>,
  index: number,
): Promise<{ index: number; result: IteratorResult<T> }> {
  return { index, result: await source.next() };
}

function wantsStream(body: unknown): boolean {
  return typeof body === "object" && body !== null && "stream" in body && body.stream === true;
}

function isValueError(error: ApiError): boolean {
  const { body } = error;
  return typeof body === "object" && body !== null && "error" in body &&
    typeof body.error === "object";
}

/** A stream has already begun with 200 when the real server checks the request. */
function streamedError(error: ApiError): Response {
  const { message } = (error.body as { error: { message: string } }).error;
  const event = { error: { message, type: "invalid_request_error", code: 400, retryable: false } };
  return new Response(`data: ${JSON.stringify(event)}\n\ndata: [DONE]\n\n`, {
    headers: eventStream,
  });
}

/** Half of an answer, and then the connection ends. */
function brokenAnswer(text: string): Response {
  const bytes = new TextEncoder().encode(text);
  const half = new Blob([bytes.subarray(0, bytes.length >> 1)]).stream();
  return new Response(half, {
    headers: { "content-type": "application/json", "content-length": String(bytes.length) },
  });
}

/** `POST /tokenize`. */
export async function tokenize(request: Request, state: EmbeddedState): Promise<unknown> {
  const body = (await jsonBody(request)) as Record<string, unknown>;
  const { prompt } = body;
  const addSpecialTokens = body.add_special_tokens !== false;
  const one = (text: string) => state.tokenizer.encode(text, { addSpecialTokens });
  const maxModelLen = state.model.config.contextLength;
  if (typeof prompt === "string") {
    const tokens = one(prompt);
    return { tokens, count: tokens.length, max_model_len: maxModelLen };
  }
  if (!Array.isArray(prompt) || !prompt.every((text) => typeof text === "string")) {
    throw formError("{'type': 'string_type', 'loc': ('body', 'prompt'), 'msg': 'not a string'}");
  }
  const tokens = prompt.map(one);
  return { tokens, count: tokens.map((ids) => ids.length), max_model_len: maxModelLen };
}

/** `POST /detokenize`. */
export async function detokenize(request: Request, state: EmbeddedState): Promise<unknown> {
  const body = (await jsonBody(request)) as Record<string, unknown>;
  const { tokens } = body;
  const skipSpecialTokens = body.skip_special_tokens !== false;
  if (!Array.isArray(tokens)) {
    throw formError("{'type': 'list_type', 'loc': ('body', 'tokens'), 'msg': 'not a list'}");
  }
  const text = Array.isArray(tokens[0])
    ? tokens.map((ids: number[]) => state.tokenizer.decode(ids, { skipSpecialTokens }))
    : state.tokenizer.decode(tokens, { skipSpecialTokens });
  return { text };
}
