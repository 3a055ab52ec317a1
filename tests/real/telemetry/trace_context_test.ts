import assert from "node:assert/strict";
import { join } from "node:path";
import {
  cpuEnv,
  pythonOf,
  sglangHome,
  sharedNewest,
  sharedRouter,
  sharedServers,
  startRealRouter,
  startRealServer,
} from "../../_support/real.ts";
import { collectSpans, type SeenSpan } from "./_otlp.ts";

/** Runs requests with OpenTelemetry on, which go on what Deno's own exporter sends. */
async function runTraced(
  target: { readonly workers?: readonly string[]; readonly router?: string },
  port: number,
): Promise<void> {
  const script = new URL("_traced_requests.ts", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", script, JSON.stringify(target)],
    env: {
      OTEL_DENO: "true",
      OTEL_DENO_CONSOLE: "ignore",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${port}`,
    },
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
}

/** Python's OTLP packages in a folder of their own, which SGLang needs and does not bring. */
async function otlpPackages(): Promise<string> {
  const folder = join(sglangHome(), "otlp-0.5.23");
  const isThere = await Deno.stat(join(folder, "opentelemetry/sdk")).then(() => true, () => false);
  if (isThere) return folder;
  const lock = new URL("requirements-otlp.lock", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(pythonOf("0.5.23"), {
    args: ["-m", "pip", "install", "-q", "--target", folder, "-r", lock],
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  return folder;
}

Deno.test("servers of both versions, and the router, take requests that carry a trace context", async () => {
  await using collector = collectSpans();
  const targets = [
    { workers: sharedServers() },
    { workers: [sharedNewest()] },
    { workers: sharedServers(), router: sharedRouter() },
  ];
  for (const target of targets) await runTraced(target, collector.port);
  const requests = collector.spans.filter(({ name }) => name.startsWith("generate_content "));
  assert.equal(requests.length, 2 * targets.length);
});

Deno.test("a server with --enable-trace puts its spans under ours, also behind the router", async () => {
  await using collector = collectSpans();
  const packages = await otlpPackages();
  await using server = await startRealServer({
    version: "0.5.23",
    // A process that had imported SGLang without these packages could not trace.
    python: pythonOf("0.5.23"),
    args: {
      enableTrace: true,
      otlpTracesEndpoint: `http://127.0.0.1:${collector.port}/v1/traces`,
    },
    env: {
      PYTHONPATH: `${cpuEnv.PYTHONPATH}:${packages}`,
      OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf",
      SGLANG_OTLP_EXPORTER_SCHEDULE_DELAY_MILLIS: "100",
    },
  });
  await using router = await startRealRouter({ workers: [server.url] });
  const workers = [server.url];
  await runTraced({ workers }, collector.port);
  await runTraced({ workers, router: router.url }, collector.port);
  const ours = collector.spans.filter(({ name }) => name.startsWith("generate_content "));
  assert.equal(ours.length, 4);
  const isUnder = ({ traceId, spanId }: SeenSpan) =>
    collector.spans.some((span) =>
      span.from === "sglang" && span.traceId === traceId && span.parentSpanId === spanId
    );
  // SGLang sends its spans a moment later.
  for (let i = 0; i < 100 && !ours.every(isUnder); i++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  assert.ok(ours.every(isUnder), JSON.stringify(collector.spans, null, 1));
});
