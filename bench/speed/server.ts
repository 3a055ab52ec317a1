/**
 * A stand-in that answers at once with as many tokens as were asked for, whole or as a stream of one
 * event a token. Prints its port. For bench/speed.ts: in a process of its own, so that the time of
 * the processor there is not the client's.
 */
import { modelInfo, serverInfo } from "../../tests/_support/http_stand_in.ts";

const kept = new Map<number, Uint8Array<ArrayBuffer>>();
const utf8 = new TextEncoder();

function answer(from: number, to: number, isLast: boolean) {
  return {
    text: "y".repeat(4 * (to - from)),
    output_ids: Array.from({ length: to - from }, (_, i) => (from + i) % 1000),
    meta_info: {
      id: "r",
      finish_reason: isLast ? { type: "length", length: to } : null,
      prompt_tokens: 100,
      weight_version: "default",
      output_token_logprobs: Array.from(
        { length: to - from },
        (_, i) => [-1.2345678901234, (from + i) % 1000, null],
      ),
      completion_tokens: to,
      cached_tokens: 0,
      e2e_latency: 0.01,
    },
  };
}

/** Milliseconds between two events of a stream. */
const EVENT_MS = 5;

function eventsOf(tokens: number): ReadableStream<Uint8Array<ArrayBuffer>> {
  let at = 0;
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, EVENT_MS));
      const isLast = ++at === tokens;
      const event = JSON.stringify(answer(at - 1, at, isLast));
      controller.enqueue(utf8.encode(`data: ${event}\n\n${isLast ? "data: [DONE]\n\n" : ""}`));
      if (isLast) controller.close();
    },
  });
}

function wholeOf(tokens: number): Uint8Array<ArrayBuffer> {
  let body = kept.get(tokens);
  if (body === undefined) {
    kept.set(tokens, body = utf8.encode(JSON.stringify(answer(0, tokens, true))));
  }
  return body;
}

const others: Readonly<Record<string, () => Response>> = {
  "/health": () => new Response(null),
  "/server_info": () =>
    Response.json({
      ...serverInfo,
      max_req_input_len: 100_000,
      incremental_streaming_output: true,
    }),
  "/model_info": () => Response.json(modelInfo),
};

const server = Deno.serve(
  {
    hostname: "127.0.0.1",
    port: 0,
    onListen: ({ port }) => void Deno.stdout.writeSync(utf8.encode(`${port}\n`)),
  },
  async (request) => {
    const other = others[new URL(request.url).pathname];
    if (other !== undefined) return other();
    const { stream = false, sampling_params: sampling } = await request.json();
    const tokens = sampling?.max_new_tokens ?? 16;
    return new Response(stream ? eventsOf(tokens) : wholeOf(tokens), {
      headers: { "content-type": stream ? "text/event-stream" : "application/json" },
    });
  },
);
await server.finished;
