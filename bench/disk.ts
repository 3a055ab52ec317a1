/**
 * A sync by disk beside the server's own load of the same folder, on one real server: the load alone
 * (`POST /update_weights_from_disk`), the load between a pause and a flush as no sync could do
 * without, and our sync with all it proves. Rounds take turns; medians of the clock.
 *
 * Run as `deno task bench disk`, for another checkpoint with `SGLANG_RL_BENCH_MODEL=FOLDER` and a
 * server of it in `SGLANG_RL_SERVERS`.
 */
// deno-lint-ignore-file no-console
import { AsyncSGLang } from "../src/engine/mod.ts";
import { SGLangWeightSyncScheme } from "../src/weights/mod.ts";
import { safetensors } from "../src/weights/source/mod.ts";
import { median } from "../tests/_support/median.ts";
import { modelPath, sharedVariables } from "../tests/_support/real.ts";

const ROUNDS = 15;
const model = Deno.env.get("SGLANG_RL_BENCH_MODEL") ?? modelPath("tiny");
const [url] = Deno.env.get(sharedVariables.servers)!.split(",");

async function post(path: string, body: object = {}): Promise<void> {
  const response = await fetch(`${url}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  await response.body?.cancel();
  if (!response.ok) throw new Error(`POST ${path} answered ${response.status}`);
}

const load = () => post("/update_weights_from_disk", { model_path: model, flush_cache: false });

await using engine = await AsyncSGLang.connect(url!);
await using sender = new SGLangWeightSyncScheme({ engine, transport: "disk" }).createSender();
await sender.initAllWorkersGroup();

const ways: Readonly<Record<string, () => Promise<unknown>>> = {
  "the load alone": load,
  "pause, load, flush, go on": async () => {
    await post("/pause_generation", { mode: "abort" });
    await load();
    await post("/flush_cache");
    await post("/continue_generation");
  },
  "our sync": () => sender.updateWeights(safetensors(model)),
};
const found = new Map(Object.keys(ways).map((name) => [name, [] as number[]]));
const phases = new Map<string, number[]>();
const paused: number[] = [];
for (const way of Object.values(ways)) await way();
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, way] of Object.entries(ways)) {
    const began = performance.now();
    const report = await way();
    found.get(name)!.push(performance.now() - began);
    if (name !== "our sync") continue;
    const { pausedMs, phasesMs } = report as Awaited<ReturnType<typeof sender.updateWeights>>;
    paused.push(pausedMs);
    for (const [phase, ms] of Object.entries(phasesMs)) {
      phases.set(phase, [...phases.get(phase) ?? [], ms]);
    }
  }
}
const ms = (times: readonly number[]) => `${median([...times]).toFixed(1)} ms`;
for (const [name, times] of found) console.log(`${name.padEnd(28)}${ms(times)}`);
console.log(`${"our sync, paused".padEnd(28)}${ms(paused)}`);
console.log(`its phases: ${[...phases].map(([name, times]) => `${name} ${ms(times)}`).join(", ")}`);
const ratio = (name: string) =>
  median(found.get("our sync")!.map((time, i) => time / found.get(name)![i]!)).toFixed(2);
console.log(`our sync / the load alone ${ratio("the load alone")}`);
console.log(`our sync / pause, load, flush ${ratio("pause, load, flush, go on")}`);
