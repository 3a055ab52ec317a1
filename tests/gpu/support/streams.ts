/** Streams of generation, to see for how long a server gives no token while it is synced. */
import type { Server } from "./server.ts";

/** What the streams saw. */
export interface StreamsReport {
  /** Longest time in which no stream got a token, in milliseconds. */
  readonly gapMs: number;
  /** Streams that ended by an abort. */
  readonly aborted: number;
  /** Streams that failed. */
  readonly failed: number;
}

/** Keeps `count` streams of a server running until the result is called. */
export async function runStreams(
  server: Server,
  count = 16,
): Promise<() => Promise<StreamsReport>> {
  const at: number[] = [];
  let stopped = false, aborted = 0, failed = 0;
  const streams = Array.from({ length: count }, async (_, i) => {
    while (!stopped) {
      try {
        const response = await fetch(`${server.url}/generate`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({
            input_ids: [5, 100, 200, 300 + i],
            stream: true,
            sampling_params: { temperature: 1, max_new_tokens: 400, ignore_eos: true },
          }),
        });
        let isAborted = false;
        for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
          at.push(performance.now());
          isAborted ||= chunk.includes('"abort"');
        }
        if (isAborted) aborted++;
      } catch {
        failed++;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  });
  await new Promise((resolve) => setTimeout(resolve, 700));
  return async () => {
    await new Promise((resolve) => setTimeout(resolve, 700));
    stopped = true;
    await Promise.all(streams);
    const gaps = at.slice(1).map((time, i) => time - at[i]!);
    return { gapMs: Math.round(Math.max(0, ...gaps)), aborted, failed };
  };
}
