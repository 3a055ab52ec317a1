/**
 * Fleets of other kinds on several GPUs of one host: experts, shared device memory, quantised and
 * deterministic servers. scripts/gpu/run_multi.sh starts the servers and runs each test.
 */
import { deepEqual, notDeepEqual, ok, rejects } from "node:assert/strict";
import { safetensors } from "../../src/weights/source/mod.ts";
import { openGroup, record } from "./support/gpu.ts";
import { folderOf } from "./support/multi_fleet.ts";
import { onDevice } from "./support/sources.ts";
import { folders, MIB, referenceTokens, senderTo, serversOf } from "./support/survival.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };

Deno.test({
  name: "moe: experts over two GPUs with attention data parallelism get the right weights",
  ...anyResources,
  async fn() {
    const [server] = serversOf("GPU_MOE");
    await server!.ready(240_000);
    const tokens: Record<string, string> = {};
    for (const version of ["b", "a"]) {
      const folder = folderOf("moe" as never, version);
      await server!.must("/update_weights_from_disk", { model_path: folder, load_format: "auto" });
      tokens[version] = String(await server!.tokens());
    }
    notDeepEqual(tokens.a, tokens.b);
    await using sender = senderTo([server!]);
    await sender.initAllWorkersGroup();
    const ms: number[] = [];
    for (const version of ["b", "a", "b"]) {
      const report = await sender.updateWeights(safetensors(folderOf("moe" as never, version)));
      ms.push(Math.round(report.durationMs));
      deepEqual(String(await server!.tokens()), tokens[version]);
    }
    record("moe", { ms });
  },
});

Deno.test({
  name: "ipc: servers on several GPUs read rank 0's memory",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_IPC");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    const tokens = await referenceTokens(servers);
    await using trainer = await openGroup();
    const sources = {
      a: await onDevice(folders.a, trainer.group),
      b: await onDevice(folders.b, trainer.group),
    };
    const options = {
      transport: "cuda-ipc",
      serversSeeDevice: true,
      bucketBytes: 1024 * MIB,
    } as const;
    await using sender = senderTo(servers, options);
    await sender.initAllWorkersGroup();
    const ms: number[] = [];
    for (const version of ["b", "a", "b", "a"] as const) {
      ms.push(Math.round((await sender.updateWeights(sources[version])).durationMs));
      for (const server of servers) deepEqual(String(await server.tokens()), tokens[version]);
    }
    record("ipc", { servers: servers.length, ms });
  },
});

Deno.test({
  name: "refused: a quantised server is left as it was",
  ...anyResources,
  async fn() {
    const servers = serversOf("GPU_FP8");
    await Promise.all(servers.map((server) => server.ready(240_000)));
    await using sender = senderTo(servers);
    await rejects(sender.initAllWorkersGroup(), /quantis/);
    record("fp8", { tokens: (await servers[0]!.tokens()).length });
  },
});

Deno.test({
  name: "deterministic: four samples of one prompt are four, and the same again with the same seed",
  ...anyResources,
  async fn() {
    const { AsyncSGLang } = await import("../../src/engine/mod.ts");
    const [server] = serversOf("GPU_DETERMINISTIC");
    await server!.ready(240_000);
    await using engine = await AsyncSGLang.connect(server!.url);
    const sample = async (seed: number | undefined) => {
      const four = await engine.generate({ inputIds: [5, 100, 200, 300] }, {
        ...{ n: 4, temperature: 1, maxNewTokens: 16, ignoreEos: true },
        ...(seed === undefined ? {} : { samplingSeed: seed }),
      });
      return (four as unknown as { ids: ArrayLike<number> }[]).map(({ ids }) => String(ids));
    };
    const once = await sample(7);
    const again = await sample(7);
    const free = await sample(undefined);
    record("deterministic", {
      different: new Set(once).size,
      same: String(once) === String(again),
      differentUnseeded: new Set(free).size,
      overlap: free.filter((one) => once.includes(one)).length,
    });
    deepEqual(once, again);
    ok(new Set(once).size === 4 && new Set(free).size === 4);
  },
});
