import assert from "node:assert/strict";

interface Attribute {
  readonly key: string;
  readonly value: Readonly<Record<string, unknown>>;
}

interface Span {
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly traceId: string;
  readonly name: string;
  readonly startTimeUnixNano: string;
  readonly kind: number;
  readonly attributes: readonly Attribute[];
  readonly status: { readonly code?: number };
}

interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly histogram?: { readonly dataPoints: readonly { readonly explicitBounds: number[] }[] };
}

/** What Deno's own exporter sent of a run, taken in by a collector of OTLP. */
async function exported(): Promise<{ spans: Span[]; metrics: Metric[] }> {
  const spans: Span[] = [];
  const metrics: Metric[] = [];
  await using collector = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      const body = await request.json();
      for (const { scopeSpans } of body.resourceSpans ?? []) {
        for (const scope of scopeSpans) spans.push(...scope.spans);
      }
      for (const { scopeMetrics } of body.resourceMetrics ?? []) {
        for (const scope of scopeMetrics) metrics.push(...scope.metrics);
      }
      return Response.json({});
    },
  );
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", new URL("_traced_child.ts", import.meta.url).pathname],
    env: {
      OTEL_DENO: "true",
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${collector.addr.port}`,
    },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return { spans, metrics };
}

function attribute(span: Span, key: string): unknown {
  const value = span.attributes.find((one) => one.key === key)?.value;
  const [plain] = Object.values(value ?? {});
  return typeof plain === "string" && "intValue" in value! ? Number(plain) : plain;
}

Deno.test("Deno exports a run as OTLP: what belongs together hangs together, by the conventions' names", async () => {
  const { spans, metrics } = await exported();
  const named = (name: string) => spans.filter((span) => span.name === name);
  const parentOf = (span: Span) => spans.find(({ spanId }) => spanId === span.parentSpanId);

  const requests = spans.filter(({ name }) => name.startsWith("generate_content "));
  const turns = named("sglang_rl.turn");
  assert.ok(turns.length >= 4);
  for (const turn of turns) {
    assert.equal(parentOf(turn)?.name, "sglang_rl.dialog");
    const ours = requests.filter((request) => request.parentSpanId === turn.spanId);
    assert.equal(ours.length, 1, "one request for each turn");
    const [request] = ours;
    assert.equal(request!.kind, 3, "a client's span");
    assert.equal(attribute(request!, "gen_ai.provider.name"), "sglang");
    const model = attribute(request!, "gen_ai.request.model");
    assert.match(String(model), /\/model$/);
    assert.equal(request!.name, `generate_content ${model}`);
    assert.equal(attribute(request!, "gen_ai.request.max_tokens"), 4);
    assert.equal(
      attribute(request!, "gen_ai.usage.output_tokens"),
      attribute(turn, "sglang_rl.turn.output_tokens"),
    );
    assert.equal(attribute(request!, "server.address"), "127.0.0.1");
    // The server, here of the same process, has taken the context from the request's headers.
    const onServer = spans.filter((span) =>
      span.parentSpanId === request!.spanId && span.kind === 2
    );
    assert.equal(onServer.length, 1, "the server's span belongs to the request's");
    assert.equal(onServer[0]!.traceId, request!.traceId);
  }
  const syncs = named("sglang_rl.sync");
  const sync = syncs.find((span) => parentOf(span) === undefined);
  assert.equal(syncs.length, 2, "the fleet's sync, and that of the server that came late");
  assert.equal(attribute(sync!, "sglang_rl.sync.version"), "1");
  for (const step of ["probe", "pause", "update", "resume"]) {
    const spans = named(`sync ${step}`);
    assert.ok(spans.length > 0, `no span of the step ${step}`);
    assert.ok(spans.some((span) => span.traceId === sync!.traceId));
    assert.ok(spans.every((span) => syncs.some(({ traceId }) => traceId === span.traceId)));
  }
  assert.equal(named("sglang_rl.batch").length, 1);
  assert.equal(attribute(named("sglang_rl.batch")[0]!, "sglang_rl.batch.rows"), 4);
  const groups = named("sglang_rl.group");
  assert.ok(groups.length >= 2);
  for (const dialog of named("sglang_rl.dialog")) {
    const group = parentOf(dialog);
    assert.equal(group?.name, "sglang_rl.group", "a dialog belongs to its group");
    assert.equal(
      attribute(group!, "sglang_rl.group.group"),
      attribute(dialog, "sglang_rl.dialog.group"),
    );
    assert.equal(dialog.traceId, group!.traceId);
    assert.ok(BigInt(dialog.startTimeUnixNano) >= BigInt(group!.startTimeUnixNano));
  }
  for (const group of groups) {
    const members = named("sglang_rl.dialog").filter((one) => one.parentSpanId === group.spanId);
    assert.equal(members.length, 2, "each group has gathered its members");
  }
  const [refit] = named("sglang_rl.refit");
  assert.equal(attribute(refit!, "sglang_rl.refit.version"), "1");
  assert.equal(attribute(refit!, "server.address"), "127.0.0.1");
  assert.equal(named("sglang_rl.refit").length, 1);
  assert.ok(syncs.some(({ parentSpanId }) => parentSpanId === refit!.spanId));
  const [start] = named("sglang_rl.server.start");
  assert.equal(start!.status.code, 2);
  assert.equal(attribute(start!, "error.type"), "crashed");
  const stream = requests.find((span) => attribute(span, "gen_ai.request.stream") === true);
  assert.equal(attribute(stream!, "gen_ai.usage.output_tokens"), 3);
  assert.equal(
    spans.filter((span) => span.parentSpanId === stream!.spanId && span.kind === 2).length,
    1,
    "a stream's request carries its context, too",
  );
  assert.ok(Number(attribute(stream!, "gen_ai.response.time_to_first_chunk")) > 0);
  const failed = requests.filter(({ status }) => status.code === 2);
  assert.equal(failed.length, 1);
  assert.equal(attribute(failed[0]!, "error.type"), "timeout");

  const units = new Map(metrics.map(({ name, unit }) => [name, unit]));
  assert.equal(units.get("gen_ai.client.operation.duration"), "s");
  assert.equal(units.get("gen_ai.client.token.usage"), "{token}");
  const bounds = (name: string) =>
    metrics.find((one) => one.name === name)?.histogram?.dataPoints[0]?.explicitBounds;
  assert.deepEqual(bounds("gen_ai.client.operation.duration")?.slice(0, 3), [0.01, 0.02, 0.04]);
  assert.deepEqual(bounds("gen_ai.client.token.usage")?.slice(0, 3), [1, 4, 16]);
  assert.equal(bounds("sglang_rl.operation.duration")?.at(-1), 600, "seconds, not milliseconds");
  assert.equal(units.get("sglang_rl.operation.duration"), "s");
  assert.equal(units.get("sglang_rl.rows"), "{row}");
  assert.equal(units.get("sglang_rl.sync.paused"), "s");
});
