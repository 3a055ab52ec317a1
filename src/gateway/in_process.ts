import { readLines } from "../internal/lines.ts";
import type { RecordingGateway } from "./gateway.ts";
import type { GatewaySession } from "./gateway_session.ts";

/** Where a model of another framework asks: a session of a gateway in this process. */
export interface InProcess {
  readonly gateway: Pick<RecordingGateway, "fetch">;
  readonly session: Pick<GatewaySession, "baseUrl" | "key">;
}

/** A call of a tool, as `/v1/chat/completions` has it. */
export interface ChatCall {
  readonly id: string;
  readonly function: { readonly name: string; readonly arguments: string };
}

/** What an answer says, whole or a part of it. */
export interface ChatSaid {
  readonly content?: string | null;
  readonly reasoning_content?: string;
  readonly tool_calls?: readonly ChatCall[];
}

/** What was sampled. */
export interface ChatIds {
  readonly prompt_token_ids?: readonly number[];
  readonly response_token_ids?: readonly number[];
  readonly response_log_probs?: readonly number[] | null;
  readonly weight_version?: string | null;
  readonly weight_versions?: unknown;
}

/** One answer, or a part of it. */
export interface ChatChoice extends ChatIds {
  readonly finish_reason: "stop" | "length" | "tool_calls" | null;
}

/** Tokens of a request and its answer. */
export interface ChatUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details?: { readonly cached_tokens?: number };
}

/** An answer of `/v1/chat/completions`. */
export interface ChatAnswer {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly choices: readonly (ChatChoice & { readonly message: ChatSaid })[];
  readonly usage: ChatUsage;
}

/** A part of a stream. */
export interface ChatChunk {
  readonly id: string;
  readonly created: number;
  readonly model: string;
  readonly choices: readonly (ChatChoice & { readonly delta: ChatSaid })[];
  readonly usage?: ChatUsage | null;
  readonly error?: { readonly message: string };
}

/** A refusal, as the framework is to tell it. */
export interface ChatRefusal {
  readonly message: string;
  readonly url: string;
  readonly status: number;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** How a request is sent. */
export interface ChatCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Makes the framework's error. */
  readonly refuse: (refusal: ChatRefusal) => Error;
}

/** An answer, with the fields of the request that had no effect. */
export interface Answered<Answer> {
  readonly answer: Answer;
  readonly ignored: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
}

/** Asks for a whole answer, without a connection; it is recorded as every other. */
export async function askChat(
  place: InProcess,
  body: Readonly<Record<string, unknown>>,
  options: ChatCallOptions,
): Promise<Answered<ChatAnswer>> {
  const response = await send(place, { ...body, return_token_ids: true }, options);
  return { answer: await response.json(), ...told(response) };
}

/** The same as a stream of parts. Leaving it ends the generation. */
export async function streamChat(
  place: InProcess,
  body: Readonly<Record<string, unknown>>,
  options: ChatCallOptions,
): Promise<Answered<AsyncGenerator<ChatChunk, void, void>>> {
  const response = await send(place, {
    ...body,
    stream: true,
    stream_options: { include_usage: true },
    return_token_ids: true,
  }, options);
  return { answer: chunksOf(response, options), ...told(response) };
}

async function send(
  { gateway, session }: InProcess,
  body: Readonly<Record<string, unknown>>,
  { signal, refuse }: ChatCallOptions,
): Promise<Response> {
  const url = `${session.baseUrl}/chat/completions`;
  const response = await gateway.fetch(url, {
    method: "POST",
    headers: { authorization: `Bearer ${session.key}` },
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.ok) return response;
  const text = await response.text();
  signal?.throwIfAborted();
  const { headers } = told(response);
  throw refuse({ message: messageIn(text), url, status: response.status, body: text, headers });
}

function told(response: Response): Omit<Answered<never>, "answer"> {
  const headers = Object.fromEntries(response.headers);
  const ignored = headers["x-sglang-rl-ignored"]?.split(", ") ?? [];
  return { ignored, headers };
}

/** An event has all ids of an answer, and comes from this process. */
const ANY_LENGTH = { name: "event", maxBytes: Infinity };

async function* chunksOf(
  response: Response,
  { signal, refuse }: ChatCallOptions,
): AsyncGenerator<ChatChunk, void, void> {
  // What leaves the loop cancels the body, which ends the generation.
  for await (const line of readLines(response.body!, ANY_LENGTH)) {
    signal?.throwIfAborted();
    // The gateway writes the data of an event as one line.
    if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
    const data = line.slice("data: ".length);
    const chunk: ChatChunk = JSON.parse(data);
    if (chunk.error !== undefined) {
      const { message } = chunk.error;
      const { headers } = told(response);
      throw refuse({ message, url: response.url, status: 500, body: data, headers });
    }
    yield chunk;
  }
  signal?.throwIfAborted();
}

function messageIn(body: string): string {
  try {
    return String(JSON.parse(body).error.message);
  } catch {
    return body.slice(0, 500);
  }
}
