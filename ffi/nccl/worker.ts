/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/** The thread of one rank: answers the main thread's requests, each as soon as it is done. */
import { type AnswerMessage, type RequestMessage, toPlainError } from "./protocol.ts";
import { RankThread } from "./rank_thread.ts";

const rank = new RankThread();

self.onmessage = async ({ data }: MessageEvent<RequestMessage>) => {
  const answer = await answerTo(data);
  self.postMessage(answer);
  const isOver = data.name === "close" || (data.name === "open" && !answer.ok);
  if (isOver) self.close();
};

async function answerTo({ id, name, arguments: args }: RequestMessage): Promise<AnswerMessage> {
  try {
    const handle = rank.handlers[name] as (args: unknown) => unknown;
    return { id, ok: true, value: await handle(args) };
  } catch (error) {
    return { id, ok: false, error: toPlainError(error) };
  }
}
