import { readLines } from "../internal/lines.ts";

/**
 * Data of the events of a `text/event-stream`, up to `[DONE]`. SGLang sends one `data:` line an
 * event; several lines of one event are joined as the standard says.
 */
export async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let data: string[] = [];
  for await (const line of readLines(stream)) {
    if (line.startsWith("data:")) {
      data.push(line.slice(line[5] === " " ? 6 : 5));
      continue;
    }
    if (line !== "" || data.length === 0) continue;
    const event = data.join("\n");
    if (event === "[DONE]") return;
    yield event;
    data = [];
  }
}
