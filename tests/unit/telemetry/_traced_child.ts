/** A run of training with OpenTelemetry on; what it exports is looked at by the test that starts it. */
import { enableTelemetry } from "../../../src/telemetry/mod.ts";
import { openTraining } from "./_training.ts";

using _telemetry = enableTelemetry();
await using training = await openTraining();
await training.step();
for await (const _delta of training.engine.stream("Hi", { maxNewTokens: 3 })) { /* To its end. */ }
await training.engine.generate("Hi", { maxNewTokens: -1 }).catch(() => {});
await training.engine.generate("Hi", { maxNewTokens: 1, timeoutMs: 0 }).catch(() => {});
