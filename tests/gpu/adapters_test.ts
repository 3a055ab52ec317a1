/**
 * A LoRA adapter of rank 16 beside the full sync of the same model, on a real server with a GPU.
 * scripts/gpu/run_multi.sh starts the servers (part `adapters`).
 */
import { deepEqual, notDeepEqual } from "node:assert/strict";
import { LoraSyncScheme } from "../../src/adapters/mod.ts";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { testAdapter } from "../_support/adapters.ts";
import { libraries, median, openGroup, record, stderrLogger } from "./support/gpu.ts";
import { fleetOf, folderOf } from "./support/multi_fleet.ts";
import { Server } from "./support/server.ts";
import { onDevice } from "./support/sources.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const RANK = 16;
const SYNCS = 11;
const prompt = { inputIds: [5, 100, 200, 300, 400, 17, 33] };
const greedy = { temperature: 0, maxNewTokens: 16, ignoreEos: true };

Deno.test({
  name: "adapters: rank 16 reaches a server while it generates; the base model stays as it was",
  ...anyResources,
  async fn() {
    const server = new Server(Deno.env.get("GPU_LORA")!);
    const [plain] = fleetOf("q05b");
    await Promise.all([server.ready(240_000), plain!.server.ready(240_000)]);
    const full: number[] = [];
    {
      await using trainer = await openGroup();
      const source = await onDevice(folderOf("q05b"), trainer.group);
      await using sender = new SGLangWeightSyncScheme({
        workers: [plain!.server.url],
        transport: "nccl",
        masterAddress: "127.0.0.1",
        nccl: libraries,
        soleTrainer: true,
        logger: { ...stderrLogger, debug: () => {} },
      }).createSender();
      await sender.initAllWorkersGroup();
      for (let i = 0; i < 6; i++) full.push((await sender.updateWeights(source)).durationMs);
    }

    const adapters = await Promise.all(
      [1, 2].map((seed) => testAdapter(folderOf("q05b"), { seed, rank: RANK })),
    );
    await using engine = await AsyncSGLang.connect(server.url);
    await using sender = new LoraSyncScheme({ engine }).createSender();
    const sample = async (lora?: string) => {
      const { ids, weightVersion } = await engine.generate(prompt, {
        ...greedy,
        ...(lora === undefined ? {} : { lora }),
      });
      return { ids: [...ids], weightVersion };
    };
    const base = await sample();
    const tokens: number[][] = [];
    let byteLength = 0;
    for (const adapter of adapters) {
      const report = await sender.updateAdapter(adapter);
      byteLength = report.byteLength;
      const { ids, weightVersion } = await sample("policy");
      deepEqual(weightVersion, report.name);
      tokens.push(ids);
    }
    notDeepEqual(tokens[0], base.ids);
    notDeepEqual(tokens[0], tokens[1]);

    const timed = async () => {
      const ms: number[] = [];
      for (let i = 0; i < SYNCS; i++) {
        ms.push((await sender.updateAdapter(adapters[i % 2]!)).durationMs);
        deepEqual((await sample("policy")).ids, tokens[i % 2]);
      }
      return ms;
    };
    const idle = await timed();
    const stop = new AbortController();
    const seen = new Set<string>();
    const load = Array.from({ length: 8 }, async () => {
      while (!stop.signal.aborted) {
        const one = await engine.generate(prompt, { ...greedy, maxNewTokens: 64, lora: "policy" });
        seen.add(String(one.weightVersion));
      }
    });
    const busy: number[] = [];
    for (let i = 0; i < SYNCS; i++) {
      busy.push((await sender.updateAdapter(adapters[i % 2]!)).durationMs);
    }
    stop.abort();
    await Promise.all(load);
    deepEqual((await sample()).ids, base.ids);
    const rounded = (ms: readonly number[]) => ms.map((one) => Math.round(one));
    record("multi.adapters", {
      ...{ rank: RANK, byteLength, versionsSeen: seen.size },
      ...{ fullMs: rounded(full), idleMs: rounded(idle), busyMs: rounded(busy) },
      fullMedian: Math.round(median(full.slice(1))),
      idleMedian: Math.round(median(idle)),
      busyMedian: Math.round(median(busy)),
    });
  },
});
