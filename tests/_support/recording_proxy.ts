/** A proxy in front of a server that keeps what `/generate` was sent and what it answered. */
import type { Served } from "./turn_checks.ts";

/** A running proxy. */
export interface RecordingProxy extends AsyncDisposable {
  readonly url: string;
  /** What was served, by {@linkcode keyOf}; several times when it happened several times. */
  readonly served: Map<string, Served[]>;
  /** How many requests were answered. */
  readonly count: number;
}

/** What tells two samples apart. */
export function keyOf(promptIds: ArrayLike<number>, ids: ArrayLike<number>): string {
  return `${Array.from(promptIds).join()}|${Array.from(ids).join()}`;
}

/** Starts a proxy in front of the server at `target`. */
export function recordingProxy(target: string): RecordingProxy {
  const served = new Map<string, Served[]>();
  let count = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname, search } = new URL(request.url);
    const body = request.method === "POST" ? await request.text() : undefined;
    const answer = await fetch(target + pathname + search, {
      method: request.method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body }),
    });
    const text = await answer.text();
    if (pathname === "/generate" && answer.ok) {
      const value = JSON.parse(text);
      const promptIds: number[] = JSON.parse(body!).input_ids;
      const pairs: [number, number][] = value.meta_info.output_token_logprobs ?? [];
      const record = {
        promptIds,
        ids: value.output_ids as number[],
        logProbs: pairs.map(([logProb]) => logProb),
      };
      const key = keyOf(promptIds, record.ids);
      served.set(key, [...served.get(key) ?? [], record]);
      count++;
    }
    return new Response(text, { status: answer.status, headers: answer.headers });
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    served,
    get count() {
      return count;
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
