/** A run of training with OpenTelemetry on; what it exports is looked at by the test that starts it. */
import { enableTelemetry } from "../../../src/telemetry/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { makeSGLangServer } from "../../../src/server/mod.ts";
import { openTraining } from "./_training.ts";

using _telemetry = enableTelemetry();
await using training = await openTraining();
await training.step();
for await (const _delta of training.engine.stream("Hi", { maxNewTokens: 3 })) { /* To its end. */ }
await training.engine.generate("Hi", { maxNewTokens: -1 }).catch(() => {});
await training.engine.generate("Hi", { maxNewTokens: 1, timeoutMs: 0 }).catch(() => {});
// A server that comes late is brought up to date.
await using late = await EmbeddedServer.start({ model: training.model, version: "0.5.23" });
await training.engine.addWorker(late.url);
// A server that ends before it is ready.
await makeSGLangServer({ model: training.model, python: "/bin/false" }).catch(() => {});
