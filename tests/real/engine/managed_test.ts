import { seenOfProcesses } from "../../_support/processes.ts";
import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { PauseMode } from "../../../src/client/types.ts";
import { cpuEnv, modelPath, pythonOf, routerPython } from "../../_support/real.ts";

const launch = {
  device: "cpu",
  python: pythonOf(),
  env: cpuEnv,
  memFractionStatic: 0.1,
  maxTotalTokens: 8192,
  maxRunningRequests: 16,
  dtype: "float32",
  readyTimeoutMs: 240_000,
  stopGraceMs: 0,
} as const;

const greedy = { temperature: 0, maxNewTokens: 12, ignoreEos: true };
const long = { temperature: 0, maxNewTokens: 600, ignoreEos: true };

/** Greedy output of each server, without the router. */
async function outputs(engine: AsyncSGLang): Promise<string[]> {
  return await Promise.all(engine.workers.map(async ({ client }) => {
    const sample = await client.generate({ text: "import asyncio", samplingParams: greedy });
    return sample.ids.join();
  }));
}

Deno.test("a managed engine: replicas behind a router, pauses, weights from disk, no server left", async (t) => {
  const engine = await AsyncSGLang.fromPretrained(modelPath("tiny"), {
    ...launch,
    numReplicas: 2,
    apiKey: "sk-test-api",
    adminApiKey: "sk-test-admin",
    router: { python: routerPython(), stopGraceMs: 0 },
  });
  try {
    await t.step("both replicas generate behind the router", async () => {
      assert.match(String(engine), /tp=1, dp=2, mode=managed/);
      const samples = await engine.generate(
        Array.from({ length: 16 }, (_, i) => `prompt ${i}`),
        { ...greedy, returnLogProbs: true },
      );
      assert.equal(samples.every(({ logProbs }) => logProbs?.length === 12), true);
      const [one, two] = await outputs(engine);
      assert.equal(one, two);
    });

    await t.step("without the keys the servers refuse; keys are in no info", async () => {
      const { url } = engine.workers[0]!;
      const ask = AsyncSGLang.connect(url, { retry: { retries: 0 } });
      await assert.rejects(ask, { code: "http", status: 401, message: /apiKey/ });
      const infos = JSON.stringify(await engine.serverInfo());
      assert.equal(infos.includes("sk-test"), false);
    });

    await t.step(
      "no key of servers and router is in the list of processes or an environment",
      async () => {
        const seen = await seenOfProcesses();
        assert.match(seen, /launch_server/);
        // The router names its process so.
        assert.match(seen, /sglang::router/);
        assert.equal(seen.includes("sk-test"), false);
      },
    );

    for (const mode of ["abort", "retract", "in_place"] satisfies PauseMode[]) {
      await t.step(`paused in mode ${mode}, requests wait until resume`, async () => {
        const expected = await engine.generate("import asyncio", long);
        const running = engine.generate(["import asyncio", "import asyncio"], long);
        await new Promise((resolve) => setTimeout(resolve, 150));
        await engine.pause(mode);
        let isDone = false;
        const waiting = engine.generate("import asyncio", greedy).finally(() => isDone = true);
        await new Promise((resolve) => setTimeout(resolve, 500));
        assert.equal(isDone, false);
        await engine.resume();
        assert.equal((await waiting).ids.length, 12);
        for (const sample of await running) {
          if (mode === "abort") {
            assert.equal(sample.finishReason.type, "abort");
            assert.deepEqual(sample.ids, expected.ids.slice(0, sample.ids.length));
          } else {
            assert.deepEqual(sample.ids, expected.ids);
          }
        }
      });
    }

    await t.step(
      "a call that a pause keeps waiting reaches its deadline, and says so",
      async () => {
        await engine.pause("abort");
        const { client } = engine.workers[0]!;
        await assert.rejects(client.generate({ text: "a" }, { timeoutMs: 300 }), {
          code: "paused",
        });
        await engine.resume();
      },
    );

    await t.step(
      "weights from disk change the output of every server to the other checkpoint's",
      async () => {
        const before = await outputs(engine);
        const update = (model: "tiny" | "tiny1", version: string) =>
          Promise.all(
            engine.workers.map(({ client }) =>
              client.updateWeightsFromDisk(modelPath(model), { weightVersion: version })
            ),
          );
        await update("tiny1", "7");
        assert.equal(await engine.flushCache({ waitMs: 5000 }), true);
        const [one, two] = await outputs(engine);
        assert.equal(one, two);
        assert.notEqual(one, before[0]);
        const versions = (await engine.modelInfo()).map(({ weightVersion }) => weightVersion);
        assert.deepEqual(versions, ["7", "7"]);
        assert.equal((await engine.generate("a", greedy)).weightVersion, "7");
        const missing = engine.workers[0]!.client.updateWeightsFromDisk("/no/such/model");
        await assert.rejects(missing, { code: "http", serverMessage: /Failed to get weights/ });
        await update("tiny", "8");
        assert.equal(await engine.flushCache({ waitMs: 5000 }), true);
        assert.deepEqual(await outputs(engine), before);
      },
    );

    await t.step("a weight version is set without aborting what runs", async () => {
      const running = engine.generate("import asyncio", long);
      await Promise.all(engine.workers.map(({ client }) => client.updateWeightVersion("9")));
      const sample = await running;
      assert.deepEqual([sample.finishReason.type, sample.weightVersion], ["length", "9"]);
    });
  } finally {
    await engine.shutdown();
  }
  for (const { url } of engine.workers) {
    await assert.rejects(fetch(`${url}/model_info`), TypeError);
  }
});

Deno.test("without a router, a server that is killed costs no request; when all are, its last lines are told", async () => {
  await using engine = await AsyncSGLang.fromPretrained(modelPath("tiny"), {
    ...launch,
    numReplicas: 2,
    router: false,
    supervise: false,
    // A crashing server would wait a minute for a core dump.
    env: { ...cpuEnv, SGLANG_CUDA_COREDUMP_BEFORE_CRASH: "0" },
    retry: { initialDelayMs: 50 },
  });
  const call = engine.generate(
    Array.from({ length: 24 }, (_, i) => `prompt ${i}`),
    { maxNewTokens: 300, ignoreEos: true },
  );
  await new Promise((resolve) => setTimeout(resolve, 300));
  // An id outside the vocabulary, past the client's check, ends a server.
  const fatal = { input_ids: [99_999], sampling_params: { max_new_tokens: 1 } };
  const [first, second] = engine.workers;
  await first!.client.generateRaw(fatal, { timeoutMs: 100_000 }).catch(() => {});
  const samples = await call;
  assert.equal(samples.every(({ ids }) => ids.length === 300), true);
  await second!.client.generateRaw(fatal, { timeoutMs: 100_000 }).catch(() => {});
  await second!.exited;
  await first!.exited;
  await assert.rejects(engine.generate("a"), { code: "crashed", message: /Its last lines/ });
});
