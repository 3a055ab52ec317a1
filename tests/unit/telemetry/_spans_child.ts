/** More spans than an exporter keeps; the test that starts it is the collector. */
import { observed } from "../../../src/internal/observe.ts";
import { enableTelemetry } from "../../../src/telemetry/mod.ts";

using _telemetry = enableTelemetry();
let ended = 0;
for (let i = 0; i < 5000; i++) {
  ended += await observed("generate", undefined, {}, () => Promise.resolve(1));
}
// deno-lint-ignore no-console
console.log(ended);
