/** Requests with OpenTelemetry on; the test that starts it looks at what it and SGLang export. */
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { enableTelemetry } from "../../../src/telemetry/mod.ts";

using _telemetry = enableTelemetry();
const { workers, router } = JSON.parse(Deno.args[0]!);
await using engine = await AsyncSGLang.connect(
  router === undefined ? workers : { workers, router },
);
await engine.generate("Once upon a time", { maxNewTokens: 4 });
for await (
  const _delta of engine.stream("Once upon a time", { maxNewTokens: 4 })
) { /* To its end. */ }
