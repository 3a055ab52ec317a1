/** Collectors of traces that do their worst: a run neither fails by them, nor waits for them. */
import assert from "node:assert/strict";

const head =
  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
const text = (text: string) => new TextEncoder().encode(text);

/** What a collector does with a connection, until it ends. */
const deeds: Readonly<Record<string, (connection: Deno.Conn) => Promise<void>>> = {
  "says nothing": (connection) => connection.readable.pipeTo(new WritableStream()),
  "reads nothing": (_connection) => new Promise(() => {}),
  "closes each connection": (connection) => Promise.resolve(connection.close()),
  "answers 503 each time": async (connection) => {
    for (const part = new Uint8Array(1 << 16); await connection.read(part) !== null;) {
      await connection.write(text("HTTP/1.1 503 Down\r\nContent-Length: 2\r\n\r\nno"));
    }
  },
  "answers without end": async (connection) => {
    await connection.write(text(head));
    for (const part = "x".repeat(1 << 16);;) {
      await connection.write(text(`${part.length.toString(16)}\r\n${part}\r\n`));
    }
  },
};

for (const [deed, run] of Object.entries(deeds)) {
  Deno.test(`a run goes on and ends beside a collector of traces that ${deed}`, async () => {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const connections: Deno.Conn[] = [];
    let came = 0;
    const accepting = (async () => {
      for await (const connection of listener) {
        came++;
        connections.push(connection);
        run(connection).catch(() => {});
      }
    })();
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL("_spans_child.ts", import.meta.url).pathname],
      env: {
        OTEL_DENO: "true",
        OTEL_DENO_CONSOLE: "ignore",
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${listener.addr.port}`,
        // At the end of a program the exporter waits so long; by default ten seconds.
        OTEL_EXPORTER_OTLP_TIMEOUT: "200",
      },
    }).output();
    const [said, told] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assert.deepEqual([code, said], [0, "5000\n"], told);
    assert.ok(came > 0, "it was asked");
    listener.close();
    await accepting.catch(() => {});
    for (const connection of connections) {
      try {
        connection.close();
      } catch {
        // It has ended, or a pipe has it.
      }
    }
  });
}
