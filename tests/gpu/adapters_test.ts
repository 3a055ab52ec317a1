/**
 * A LoRA adapter of rank 16 beside the full sync of the same model, on real servers with a GPU each,
 * and the adapters of a PEFT model by the trainer link. scripts/gpu/run_multi.sh starts the servers
 * (part `adapters`): one that takes adapters and one that takes whole weights on each GPU but the first.
 */
import { deepEqual, notDeepEqual } from "node:assert/strict";
import { LoraSyncScheme } from "../../src/adapters/mod.ts";
import { AsyncSGLang } from "../../src/engine/mod.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";
import { readLines } from "../../src/internal/lines.ts";
import { syncAdapter, TrainerLink } from "../../src/trainer/mod.ts";
import { testAdapter } from "../_support/adapters.ts";
import { temporaryFolder } from "../_support/temporary_folder.ts";
import { libraries, median, openGroup, record, stderrLogger } from "./support/gpu.ts";
import { folderOf } from "./support/multi_fleet.ts";
import { python } from "./support/peer.ts";
import { Server } from "./support/server.ts";
import { onDevice } from "./support/sources.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const RANK = 16;
const SYNCS = 11;
const PEFT_PUSHES = 4;
const prompt = { inputIds: [5, 100, 200, 300, 400, 17, 33] };
const greedy = { temperature: 0, maxNewTokens: 16, ignoreEos: true };

const urlsOf = (name: string) => Deno.env.get(name)!.split(" ");
const rounded = (ms: readonly number[]) => ms.map((one) => Math.round(one));

Deno.test({
  name: "adapters: rank 16 reaches the servers while they generate; the base model stays as it was",
  ...anyResources,
  async fn() {
    const [plain, urls] = [urlsOf("GPU_PLAIN"), urlsOf("GPU_LORA")];
    await Promise.all([...plain, ...urls].map((url) => new Server(url).ready(240_000)));
    const full: number[] = [];
    {
      await using trainer = await openGroup();
      const source = await onDevice(folderOf("q05b"), trainer.group);
      await using sender = new SGLangWeightSyncScheme({
        workers: plain,
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
    await using engine = await AsyncSGLang.connect(urls);
    const sample = async (lora?: string) => {
      const { ids, weightVersion } = await engine.generate(prompt, {
        ...greedy,
        ...(lora === undefined ? {} : { lora }),
      });
      return { ids: [...ids], weightVersion };
    };
    const base = await sample();
    const tokens: number[][] = [];
    for (const via of ["tensors", "auto"] as const) {
      await using sender = new LoraSyncScheme({ engine, via }).createSender();
      let byteLength = 0;
      for (const [i, adapter] of adapters.entries()) {
        const report = await sender.updateAdapter(adapter, { name: via });
        byteLength = report.byteLength;
        const { ids, weightVersion } = await sample(via);
        deepEqual(weightVersion, report.name);
        deepEqual(ids, tokens[i] ??= ids, "by each way the same");
      }
      notDeepEqual(tokens[0], base.ids);
      notDeepEqual(tokens[0], tokens[1]);

      const bring = async (i: number) => {
        const startedMs = performance.now();
        const report = await sender.updateAdapter(adapters[i % 2]!, { name: via });
        return {
          wallMs: performance.now() - startedMs,
          bringMs: report.durationMs,
          slowestLoadMs: Math.max(...report.servers.map(({ durationMs }) => durationMs)),
        };
      };
      const idle: Awaited<ReturnType<typeof bring>>[] = [];
      for (let i = 0; i < SYNCS; i++) {
        idle.push(await bring(i));
        deepEqual((await sample(via)).ids, tokens[i % 2]);
      }
      const stop = new AbortController();
      const seen = new Set<string>();
      const load = Array.from({ length: 8 * urls.length }, async () => {
        while (!stop.signal.aborted) {
          const one = await engine.generate(prompt, { ...greedy, maxNewTokens: 64, lora: via });
          seen.add(String(one.weightVersion));
        }
      });
      const busy: typeof idle = [];
      for (let i = 0; i < SYNCS; i++) busy.push(await bring(i));
      stop.abort();
      await Promise.all(load);
      deepEqual((await sample()).ids, base.ids);
      await engine.adapters.idle();
      const of = (runs: typeof idle, what: keyof (typeof idle)[0]) =>
        Math.round(median(runs.map((run) => run[what])));
      record(`multi.adapters.${via}`, {
        ...{ rank: RANK, byteLength, servers: urls.length, versionsSeen: seen.size },
        idle: {
          wall: of(idle, "wallMs"),
          bring: of(idle, "bringMs"),
          load: of(idle, "slowestLoadMs"),
        },
        busy: {
          wall: of(busy, "wallMs"),
          bring: of(busy, "bringMs"),
          load: of(busy, "slowestLoadMs"),
        },
        idleMs: rounded(idle.map(({ wallMs }) => wallMs)),
        busyMs: rounded(busy.map(({ wallMs }) => wallMs)),
        fullMs: rounded(full),
        fullMedian: Math.round(median(full.slice(1))),
      });
    }
    await engine.adapters.clear();
  },
});

Deno.test({
  name: "adapters: a PEFT model on a GPU pushes its adapter by the link",
  ...anyResources,
  async fn() {
    await using folder = await temporaryFolder();
    await using link = await TrainerLink.listen(`unix:${folder.path}/trainer.sock`, {
      cuda: { device: 0, libraries },
      logger: stderrLogger,
    });
    await using engine = await AsyncSGLang.connect(urlsOf("GPU_LORA"));
    await using sender = new LoraSyncScheme({ engine }).createSender();
    const script = new URL("./support/peft_trainer.py", import.meta.url).pathname;
    const saved = `${folder.path}/saved`;
    const trainer = new Deno.Command(python, {
      args: ["-W", "ignore", script, link.address, folderOf("q05b"), saved, `${PEFT_PUSHES}`],
      env: {
        PYTHONPATH: new URL("../../python", import.meta.url).pathname,
        CUDA_VISIBLE_DEVICES: "0",
        HF_HUB_OFFLINE: "1",
      },
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const told = readLines(trainer.stdout);
    const outcomes: { version: string; seconds: number; syncMs: number; way: string }[] = [];
    for (let i = 1; i <= PEFT_PUSHES; i++) {
      const push = await link.nextPush({ signal: AbortSignal.timeout(90_000) });
      const { name } = await syncAdapter(push, sender);
      deepEqual(name, `peft@${i}`);
      outcomes.push(JSON.parse((await told.next()).value!));
      deepEqual(outcomes.at(-1)!.version, name);
    }
    deepEqual((await trainer.status).code, 0);
    const pushed = await engine.generate(prompt, { ...greedy, lora: "peft" });
    await sender.updateAdapter(saved, { name: "saved" });
    const fromFolder = await engine.generate(prompt, { ...greedy, lora: "saved" });
    const base = await engine.generate(prompt, greedy);
    deepEqual(pushed.ids, fromFolder.ids, "as from the folder that PEFT saved");
    notDeepEqual(pushed.ids, base.ids);
    record("multi.adapters.peft", {
      way: outcomes[0]!.way,
      pushMs: rounded(outcomes.map(({ seconds }) => 1000 * seconds)),
      syncMs: rounded(outcomes.map(({ syncMs }) => syncMs)),
    });
    await engine.adapters.clear();
  },
});
