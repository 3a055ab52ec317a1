import { LimitError } from "../errors.ts";
import { LineSplitter } from "../internal/lines.ts";

/** How much a stream may send. */
export interface EventLimits {
  /** Longest event. */
  readonly eventBytes: number;
  /** All of them together. */
  readonly streamBytes: number;
}

/**
 * Data of the events of a `text/event-stream`, up to `[DONE]`. SGLang sends one `data:` line an
 * event; several lines of one event are joined as the standard says.
 *
 * @param read Gives the next part, `null` at the end.
 * @throws {LimitError} When the stream sends more than it may.
 */
export async function* readEvents(
  read: () => Promise<Uint8Array | null>,
  limits: EventLimits,
): AsyncGenerator<string> {
  const lines = new LineSplitter({ name: "limits.generateBytes", maxBytes: limits.eventBytes });
  let total = 0;
  let data: string[] = [];
  let dataLength = 0;
  for (;;) {
    const part = await read();
    if (part === null) return;
    total += part.length;
    if (total > limits.streamBytes) throw tooMuch("the stream sent", limits.streamBytes);
    for (const line of lines.push(part)) {
      if (line.startsWith("data:")) {
        data.push(line.slice(line[5] === " " ? 6 : 5));
        // An empty line counts too: it takes memory.
        dataLength += line.length;
        if (dataLength > limits.eventBytes) throw tooMuch("an event has", limits.eventBytes);
        continue;
      }
      if (line !== "" || data.length === 0) continue;
      const event = data.length === 1 ? data[0]! : data.join("\n");
      if (event === "[DONE]") return;
      yield event;
      data = [];
      dataLength = 0;
    }
  }
}

function tooMuch(what: string, max: number): LimitError {
  return new LimitError(`${what} more than limits.generateBytes, ${max} bytes`, {
    limit: "limits.generateBytes",
    max,
  });
}
