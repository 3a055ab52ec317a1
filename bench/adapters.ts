/**
 * An adapter sync beside a full sync of the same tiny model on a real server, idle and while it
 * generates. Starts a server of its own, because the others take no adapters.
 *
 * Run as `deno task bench adapters`.
 */
// deno-lint-ignore-file no-console
import { LoraSyncScheme } from "../src/adapters/mod.ts";
import { AsyncSGLang } from "../src/engine/mod.ts";
import { SGLangWeightSyncScheme } from "../src/weights/mod.ts";
import { safetensors } from "../src/weights/source/mod.ts";
import { testAdapter } from "../tests/_support/adapters.ts";
import { median } from "../tests/_support/median.ts";
import { modelPath, sharedVariables } from "../tests/_support/real.ts";
import { startLoraServer } from "../tests/real/adapters/_servers.ts";

const model = modelPath("tiny");
const adapters = await Promise.all(
  [1, 2].map((seed) => testAdapter(model, { seed, rank: 8 })),
);

async function timed(count: number, work: (index: number) => Promise<unknown>): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const startedMs = performance.now();
    await work(i);
    times.push(performance.now() - startedMs);
  }
  return median(times);
}

// The same model on a server that takes whole weights.
const [plainUrl] = Deno.env.get(sharedVariables.servers)!.split(",");
const full: Record<string, number> = {};
for (const transport of ["gloo", "disk"] as const) {
  await using engine = await AsyncSGLang.connect(plainUrl!);
  await using sender = new SGLangWeightSyncScheme({ engine, transport }).createSender();
  await sender.initAllWorkersGroup();
  full[transport] = await timed(7, () => sender.updateWeights(safetensors(model)));
}

await using server = await startLoraServer("0.5.23");
await using engine = await AsyncSGLang.connect(server.url);
await using sender = new LoraSyncScheme({ engine }).createSender();
await sender.updateAdapter(adapters[0]!);
const idle = await timed(21, (i) => sender.updateAdapter(adapters[i % 2]!));
const stop = new AbortController();
const load = Array.from({ length: 8 }, async () => {
  while (!stop.signal.aborted) {
    await engine.generate("Hello world", { maxNewTokens: 32, ignoreEos: true, lora: "policy" });
  }
});
const busy = await timed(21, (i) => sender.updateAdapter(adapters[i % 2]!));
stop.abort();
await Promise.all(load);

console.log(`full sync, gloo: ${full.gloo!.toFixed(0)} ms; disk: ${full.disk!.toFixed(0)} ms`);
console.log(
  `adapter of rank 8, idle: ${idle.toFixed(1)} ms; with 8 requests: ${busy.toFixed(1)} ms`,
);
console.log(`adapter / full (gloo): ${(idle / full.gloo!).toFixed(3)}`);
