import type { IncomingMessage, ServerResponse } from "node:http";

/** Fires when the client goes away before it has its answer. */
export function leavingSignal(message: IncomingMessage, response: ServerResponse): AbortSignal {
  const leaving = new AbortController();
  const onClose = () => {
    if (!response.writableFinished) leaving.abort(new Error("The client went away"));
  };
  response.on("close", onClose);
  response.on("error", onClose);
  message.on("error", onClose);
  return leaving.signal;
}

/** Writes a body as fast as the client reads it, and ends the answer. The head is written already. */
export async function writeBody(
  body: ReadableStream<Uint8Array>,
  response: ServerResponse,
  signal: AbortSignal,
): Promise<void> {
  const reader = body.getReader();
  const leave = () => void reader.cancel(signal.reason).catch(() => {});
  if (signal.aborted) leave();
  signal.addEventListener("abort", leave, { once: true });
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (!response.write(value) && !signal.aborted) await drained(response);
  }
  signal.removeEventListener("abort", leave);
  response.end();
}

/** Waits until the client has read, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      response.off("close", done);
      resolve();
    };
    response.on("drain", done);
    response.on("close", done);
  });
}
