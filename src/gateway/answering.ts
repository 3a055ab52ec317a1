import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import type { ReadRequest, WriteContext } from "./apis/api.ts";
import { eitherSignal } from "./either_signal.ts";
import { EventStream } from "./event_stream.ts";
import { asRefusal } from "./fault.ts";
import type { GatewayModel } from "./model.ts";
import type { RecordedTurn } from "./recorded_turn.ts";
import type { OpenSession } from "./session.ts";

/** What an answer is made with. */
export interface AnsweringOptions {
  readonly session: OpenSession;
  readonly model: GatewayModel;
  readonly headers: HeadersInit;
  readonly slowReadMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The request's own signal. */
  readonly signal: AbortSignal;
}

/** Answers with the whole. */
export async function answerWhole(
  { asked, id, writer }: ReadRequest,
  { session, model, signal, headers }: AnsweringOptions,
): Promise<Response> {
  const turns = await session.answer(asked, model, { id, signal });
  return Response.json(await writer.whole(turns, await contextOf(asked, model)), { headers });
}

/**
 * Answers with a stream. It begins with the first part of the answer, so that what is refused before
 * has a status of its own.
 */
export async function answerStream(
  { asked, id, writer }: ReadRequest,
  { session, model, signal, headers, slowReadMs, clock, logger }: AnsweringOptions,
): Promise<Response> {
  const context = await contextOf(asked, model);
  const leaving = new AbortController();
  const stream = new EventStream({
    slowReadMs,
    clock,
    onLeave: (reason) => leaving.abort(new Error(reason)),
  });
  const begun = Promise.withResolvers<void>();
  let isBegun = false;
  const begin = () => {
    if (isBegun) return;
    isBegun = true;
    writer.begin(stream);
    begun.resolve();
  };
  const either = eitherSignal(signal, leaving.signal);
  let written: Promise<void> = Promise.resolve();
  const answering = session.answer(asked, model, {
    id,
    signal: either.signal,
    onPart: (part) => {
      begin();
      written = written.then(() => writer.part(stream, part, context));
    },
  });
  const finish = async (turns: readonly RecordedTurn[]) => {
    begin();
    await written;
    await writer.end(stream, turns, context);
    stream.close();
  };
  answering.then(finish).catch((error) => {
    if (!isBegun) {
      begun.reject(error);
      return;
    }
    const refusal = asRefusal(error);
    if (refusal.status >= 500) logger.warn(`A stream of session ${session.id} failed: ${error}`);
    writer.fail(stream, refusal);
    stream.close();
  }).finally(() => either[Symbol.dispose]());
  await begun.promise;
  return new Response(stream.body, {
    headers: {
      ...headers,
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
    },
  });
}

async function contextOf(
  asked: ReadRequest["asked"],
  model: GatewayModel,
): Promise<WriteContext> {
  const { model: { tokenizer } } = await model.setting(asked);
  return { tokenizer };
}
