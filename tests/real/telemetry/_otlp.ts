/** A collector of OTLP that keeps spans, from JSON as Deno sends it and protobuf as Python does. */

/** A span as far as the test looks at it; ids in hexadecimal. */
export interface SeenSpan {
  readonly name: string;
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  /** Who sent it. */
  readonly from: "deno" | "sglang";
}

/** Listens on a free port of this machine. */
export function collectSpans(): AsyncDisposable & {
  readonly port: number;
  readonly spans: readonly SeenSpan[];
} {
  const spans: SeenSpan[] = [];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      const isJson = request.headers.get("content-type") === "application/json";
      if (isJson) {
        const body = await request.json();
        for (const { scopeSpans } of body.resourceSpans ?? []) {
          for (const scope of scopeSpans) {
            for (const span of scope.spans) spans.push({ ...span, from: "deno" });
          }
        }
        return Response.json({});
      }
      let body = request.body!;
      if (request.headers.get("content-encoding") === "gzip") {
        body = body.pipeThrough(new DecompressionStream("gzip"));
      }
      spans.push(...protobufSpans(new Uint8Array(await new Response(body).arrayBuffer())));
      return new Response(new Uint8Array(), {
        headers: { "content-type": "application/x-protobuf" },
      });
    },
  );
  return { port: server.addr.port, spans, [Symbol.asyncDispose]: () => server.shutdown() };
}

/**
 * Spans of an ExportTraceServiceRequest. Source: opentelemetry/proto/trace/v1/trace.proto
 * (resource_spans 1, scope_spans 2, spans 2; trace_id 1, span_id 2, parent_span_id 4, name 5).
 */
function protobufSpans(bytes: Uint8Array): SeenSpan[] {
  return parts(bytes, 1).flatMap((resource) => parts(resource, 2))
    .flatMap((scope) => parts(scope, 2)).map((span) => {
      const hex = (field: number) => parts(span, field)[0]?.toHex() ?? "";
      return {
        traceId: hex(1),
        spanId: hex(2),
        parentSpanId: hex(4),
        name: new TextDecoder().decode(parts(span, 5)[0]),
        from: "sglang",
      };
    });
}

/** The fields of a message that have this number and are messages, texts or bytes. */
function parts(message: Uint8Array, wanted: number): Uint8Array[] {
  const found: Uint8Array[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 1;; shift *= 128) {
      const byte = message[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const wire = key % 8;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else {
      const length = varint();
      if (Math.floor(key / 8) === wanted) found.push(message.subarray(at, at + length));
      at += length;
    }
  }
  return found;
}
