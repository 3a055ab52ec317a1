/**
 * Brings one adapter version after the other to two servers while a collector generates, and counts
 * rows of other adapters than they say, and what grows.
 *
 * Run as `deno task soak:adapters [--versions 1000] [--real 0.5.23]`: embedded servers, or one real one.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { EmbeddedServer, makeTinyCheckpoint } from "../src/embedded/mod.ts";
import { testAdapter, testLora } from "../tests/_support/adapters.ts";
import { modelPath, type SGLangVersion } from "../tests/_support/real.ts";
import { startLoraServer } from "../tests/real/adapters/_servers.ts";
import { runAdapterSoak } from "./soak/adapters.ts";

const { values } = parseArgs({
  options: {
    versions: { type: "string", default: "1000" },
    real: { type: "string" },
  },
});
await using stack = new AsyncDisposableStack();
let model: string;
const urls: string[] = [];
if (values.real !== undefined) {
  model = modelPath("tiny");
  urls.push(stack.use(await startLoraServer(values.real as SGLangVersion)).url);
} else {
  model = await Deno.makeTempDir({ prefix: "sglang-rl-adapters-" });
  const folder = model;
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  await makeTinyCheckpoint(model, { seed: 0 });
  for (const version of ["0.5.16", "0.5.23"] as const) {
    urls.push(stack.use(await EmbeddedServer.start({ model, version, lora: testLora })).url);
  }
}
const adapters = await Promise.all(
  Array.from({ length: 5 }, (_, seed) => testAdapter(model, { seed: seed + 1 })),
);
const report = await runAdapterSoak({
  urls,
  model,
  adapters,
  versions: Number(values.versions),
  onProgress: (line) => console.log(line),
});
console.log(JSON.stringify(report, null, 2));
await stack.disposeAsync();
const faults = report.wrongRows + report.inexactRows + report.failedDialogs;
Deno.exit(faults === 0 && report.rows > 0 ? 0 : 1);
