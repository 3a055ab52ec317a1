/** What each official client does besides its loop of tools: it leaves, is refused, shows log-probs. */
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import Anthropic from "@anthropic-ai/sdk";
import { ChatOpenAI } from "@langchain/openai";
import { APICallError, generateText, streamText } from "ai";
import OpenAI from "openai";
import type { GatewaySession } from "../../src/gateway/mod.ts";
import { until } from "./clock.ts";

/** Where a client asks. */
export type Place = Pick<GatewaySession, "baseUrl" | "key">;

/** One client. */
export interface Client {
  /** Reads a stream, and leaves it after a few parts. */
  readonly leavesStream: (place: Place, leaving: AbortController) => Promise<unknown>;
  /** Asks for a whole answer; the signal fires in the middle. */
  readonly asks: (place: Place, signal: AbortSignal) => Promise<unknown>;
  /** Asks for what is refused: the client's own error, with its status. */
  readonly statusOf: (error: unknown) => number | undefined;
  /** Log-probabilities of a whole answer, as the client shows them; Anthropic's has none. */
  readonly logProbs: ((place: Place) => Promise<readonly number[]>) | null;
}

const LONG = 1500;
const content = "Talk";
const messages = [{ role: "user" as const, content }];
const chat = { model: "policy", messages, max_completion_tokens: LONG };
const openai = ({ baseUrl, key }: Place) =>
  new OpenAI({ baseURL: baseUrl, apiKey: key, maxRetries: 0 }).chat.completions;
const anthropic = ({ baseUrl, key }: Place) =>
  new Anthropic({ baseURL: baseUrl.replace(/\/v1$/, ""), apiKey: key, maxRetries: 0 }).messages;
const ai = ({ baseUrl, key }: Place) =>
  createOpenAI({ baseURL: baseUrl, apiKey: key }).chat("policy");
const langchain = ({ baseUrl, key }: Place, maxTokens = LONG, more = {}) =>
  new ChatOpenAI({
    model: "policy",
    apiKey: key,
    maxRetries: 0,
    maxTokens,
    configuration: { baseURL: baseUrl },
    ...more,
  });
/** Leaves after a few parts. */
const PARTS = 4;

/** The official clients by name. */
export const clients: Readonly<Record<string, Client>> = {
  openai: {
    async leavesStream(place) {
      const stream = await openai(place).create({ ...chat, stream: true });
      let parts = 0;
      for await (const _ of stream) if (++parts === PARTS) break;
    },
    asks: (place, signal) => openai(place).create(chat, { signal }),
    statusOf: (error) => error instanceof OpenAI.APIError ? error.status : undefined,
    async logProbs(place) {
      const { choices: [choice] } = await openai(place).create({
        ...chat,
        max_completion_tokens: 6,
        logprobs: true,
        top_logprobs: 2,
      });
      assert.ok(choice!.logprobs!.content!.every(({ top_logprobs: top }) => top.length === 2));
      return choice!.logprobs!.content!.map(({ logprob }) => logprob);
    },
  },
  anthropic: {
    async leavesStream(place) {
      const stream = anthropic(place).stream({ model: "policy", max_tokens: LONG, messages });
      let parts = 0;
      stream.on("text", () => ++parts === PARTS && stream.abort());
      await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
    },
    asks: (place, signal) =>
      anthropic(place).create({ model: "policy", max_tokens: LONG, messages }, { signal }),
    statusOf: (error) => error instanceof Anthropic.APIError ? error.status : undefined,
    logProbs: null,
  },
  ai: {
    async leavesStream(place, leaving) {
      const { textStream } = streamText({
        model: ai(place),
        prompt: content,
        maxOutputTokens: LONG,
        abortSignal: leaving.signal,
        onError: () => {},
      });
      let parts = 0;
      try {
        for await (const _ of textStream) if (++parts === PARTS) leaving.abort();
      } catch {
        // Leaving a stream may end it with an error or without.
      }
    },
    asks: (place, abortSignal) =>
      generateText({
        model: ai(place),
        prompt: content,
        maxOutputTokens: LONG,
        maxRetries: 0,
        abortSignal,
      }),
    statusOf: (error) => APICallError.isInstance(error) ? error.statusCode : undefined,
    async logProbs(place) {
      const { providerMetadata } = await generateText({
        model: ai(place),
        prompt: content,
        maxOutputTokens: 6,
        providerOptions: { openai: { logprobs: true } },
      });
      const shown = providerMetadata!.openai!.logprobs as unknown as { logprob: number }[];
      return shown.map(({ logprob }) => logprob);
    },
  },
  langchain: {
    async leavesStream(place, leaving) {
      let parts = 0;
      await assert.rejects(async () => {
        for await (const _ of await langchain(place).stream(content, { signal: leaving.signal })) {
          if (++parts === PARTS) leaving.abort();
        }
      });
    },
    asks: (place, signal) => langchain(place).invoke(content, { signal }),
    statusOf: (error) => (error as { status?: number }).status,
    async logProbs(place) {
      const answer = await langchain(place, 6, { logprobs: true }).invoke(content);
      const { content: shown } = answer.response_metadata.logprobs as {
        content: { logprob: number }[];
      };
      return shown.map(({ logprob }) => logprob);
    },
  },
};

/**
 * A client leaves a stream and a whole answer in the middle, and is refused: rows have what was sampled,
 * and errors are the client's own. The policy must not end an answer by itself.
 */
export async function checkLeaving(client: Client, session: GatewaySession): Promise<void> {
  await client.leavesStream(session, new AbortController());
  await until(() => session.turns.length === 1);
  const leaving = new AbortController();
  const asking = client.asks(session, leaving.signal);
  const refused = assert.rejects(asking);
  await until(() => session.running === 1);
  leaving.abort();
  await refused;
  const never = new AbortController().signal;
  const wrong = { baseUrl: session.baseUrl, key: "sk-wrong" };
  const error = await client.asks(wrong, never).then(() => null, (error) => error);
  assert.equal(client.statusOf(error), 401, String(error));
  const { rows } = await session.end();
  for (const { finishReason, responseIds, logProbs, info } of rows) {
    assert.deepEqual([finishReason.type, info.aborted], ["abort", true]);
    assert.ok(responseIds.length < LONG);
    assert.equal(logProbs!.length, responseIds.length);
  }
  assert.ok(rows[0]!.responseIds.length >= PARTS - 1);
  const gone = await client.asks(session, never).then(() => null, (error) => error);
  assert.equal(client.statusOf(gone), 401);
}

/** A client shows the log-probabilities that the row has, bit for bit. */
export async function checkLogProbs(client: Client, session: GatewaySession): Promise<void> {
  const shown = await client.logProbs!(session);
  const { rows: [row] } = await session.end();
  assert.deepEqual(shown.map(Math.fround), [...row!.logProbs!]);
}
