import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { GenerationDelta } from "../../../src/client/types.ts";
import { cuttingProxy } from "../../_support/cutting_proxy.ts";
import { modelPath, sharedNewest, sharedServers } from "../../_support/real.ts";

const greedy = { temperature: 0, maxNewTokens: 12, ignoreEos: true };

for (const version of ["0.5.16", "0.5.23"] as const) {
  const connect = () =>
    new SGLangClient({ url: version === "0.5.16" ? sharedServers()[0]! : sharedNewest() });

  Deno.test(`${version}: infos, load and probes are read from the server`, async () => {
    await using client = connect();
    const info = await client.serverInfo();
    assert.equal(info.version, version);
    assert.deepEqual([info.tpSize, info.dpSize, info.ppSize], [1, 1, 1]);
    assert.equal(info.maxRunningRequests, 16);
    assert.equal(info.modelPath, modelPath("tiny"));
    assert.equal("api_key" in info.raw, false);
    const model = await client.modelInfo();
    assert.deepEqual(model.architectures, ["Qwen2ForCausalLM"]);
    assert.equal(typeof model.weightVersion, "string");
    assert.ok((await client.load()).running >= 0);
    assert.equal(await client.health(), true);
    assert.equal(await client.ping(), true);
    assert.equal(await client.ready(), version === "0.5.23");
  });

  Deno.test(`${version}: the server tells its vocabulary size, and ids beyond it are not sent`, async () => {
    await using client = connect();
    assert.equal(await client.vocabSize(), 1024);
    await assert.rejects(client.generate({ inputIds: [1, 1024] }), { code: "validation" });
    await assert.rejects(
      client.generate({ text: "a", samplingParams: { stop_token_ids: [5000] } }),
      /stopTokenIds\[0\]/,
    );
    assert.equal(await client.health(), true);
  });

  Deno.test(`${version}: a generation whose connection is cut succeeds, sent again under its own id`, async () => {
    const target = new URL(version === "0.5.16" ? sharedServers()[0]! : sharedNewest());
    await using proxy = cuttingProxy(target, { generations: 1, afterMs: 300 });
    await using client = new SGLangClient({ url: proxy.url, vocabSize: 1024 });
    const sample = await client.generate({
      inputIds: [1, 2, 3, 4],
      rid: "a-request-that-is-cut",
      samplingParams: { maxNewTokens: 200, ignoreEos: true },
    });
    assert.equal(sample.ids.length, 200);
    assert.equal(sample.id, "a-request-that-is-cut");
    assert.deepEqual(proxy.rids, ["a-request-that-is-cut", "a-request-that-is-cut.1"]);
    assert.ok((await client.load()).running === 0);
  });

  Deno.test(`${version}: text and its ids give the same greedy tokens`, async () => {
    await using client = connect();
    const ids = await client.tokenize("import asyncio");
    const fromText = await client.generate({ text: "import asyncio", samplingParams: greedy });
    const fromIds = await client.generate({ inputIds: ids, samplingParams: greedy });
    assert.deepEqual(fromText.ids, fromIds.ids);
    assert.equal(fromText.ids.length, 12);
    assert.deepEqual(fromIds.promptIds, ids);
    assert.equal(fromText.promptTokens, ids.length);
    assert.equal(await client.detokenize(fromIds.ids), fromIds.text);
    assert.ok(fromText.latencyMs > 0 && fromText.serverLatencyMs! > 0);
  });

  Deno.test(`${version}: the prompt's ids come back when asked for`, async () => {
    await using client = connect();
    const sample = await client.generate({
      text: "import asyncio",
      returnPromptIds: true,
      samplingParams: { maxNewTokens: 1 },
    });
    assert.deepEqual(sample.promptIds, await client.tokenize("import asyncio"));
  });

  Deno.test(`${version}: log-probabilities of the output, the prompt and the likeliest ids`, async () => {
    await using client = connect();
    const sample = await client.generate({
      inputIds: [5, 6, 7, 8],
      samplingParams: greedy,
      returnLogProbs: true,
      logProbStartLen: 0,
      topLogProbs: 3,
    });
    assert.equal(sample.logProbs?.length, 12);
    assert.ok(sample.logProbs!.every((logProb) => logProb <= 0));
    assert.equal(sample.promptLogProbs?.length, 4);
    assert.ok(Number.isNaN(sample.promptLogProbs![0]));
    assert.equal(sample.topLogProbs?.length, 12);
    sample.topLogProbs!.forEach((top, i) => {
      // Greedy: the token made is the likeliest.
      assert.equal(top.ids[0], sample.ids[i]);
      assert.equal(top.logProbs[0], sample.logProbs![i]);
    });
    assert.equal(sample.promptTopLogProbs?.[0], null);
  });

  Deno.test(`${version}: a prompt is scored without making a token`, async () => {
    await using client = connect();
    const sample = await client.generate({
      inputIds: [5, 6, 7, 8],
      samplingParams: { maxNewTokens: 0 },
      logProbStartLen: 0,
    });
    assert.equal(sample.ids.length, 0);
    assert.equal(sample.promptLogProbs?.length, 4);
  });

  Deno.test(`${version}: stop tokens and stop strings end a sample and are told`, async () => {
    await using client = connect();
    const free = await client.generate({ text: "import asyncio", samplingParams: greedy });
    const stopId = free.ids[4]!;
    const byToken = await client.generate({
      text: "import asyncio",
      samplingParams: { ...greedy, ignoreEos: false, stopTokenIds: [stopId] },
    });
    const end = free.ids.indexOf(stopId) + 1;
    assert.deepEqual(byToken.finishReason, { type: "stop", matched: stopId });
    assert.deepEqual(byToken.ids, free.ids.slice(0, end));
    const stop = free.text!.slice(3, 6);
    const byText = await client.generate({
      text: "import asyncio",
      samplingParams: { ...greedy, stop },
    });
    assert.deepEqual(byText.finishReason, { type: "stop", matched: stop });
    assert.equal(byText.text, free.text!.slice(0, free.text!.indexOf(stop)));
  });

  Deno.test(`${version}: a seed, which a server without determinism ignores, is refused`, async () => {
    await using client = connect();
    const body = { text: "import asyncio", sampling_params: { sampling_seed: 1 } };
    const ids = async () => (await client.generateRaw(body) as { output_ids: number[] }).output_ids;
    assert.notDeepEqual(await ids(), await ids());
    await assert.rejects(
      client.generate({ text: "import asyncio", samplingParams: { samplingSeed: 1 } }),
      { code: "unsupported" },
    );
  });

  Deno.test(`${version}: n samples of one prompt come as n results`, async () => {
    await using client = connect();
    const samples = await client.generateMany({
      text: "import asyncio",
      samplingParams: { n: 3, maxNewTokens: 8, ignoreEos: true },
      returnLogProbs: true,
    });
    assert.equal(samples.length, 3);
    assert.equal(new Set(samples.map(({ ids }) => ids.join())).size, 3);
    for (const sample of samples) assert.equal(sample.logProbs?.length, 8);
  });

  Deno.test(`${version}: a stream gives the same sample step by step`, async () => {
    await using client = connect();
    const request = { text: "import asyncio", samplingParams: greedy, returnLogProbs: true };
    const whole = await client.generate(request);
    const steps: GenerationDelta[] = await Array.fromAsync(client.stream(request));
    const final = steps.at(-1)!.final!;
    assert.ok(steps.length > 1);
    assert.deepEqual(final.ids, whole.ids);
    assert.deepEqual(steps.flatMap(({ ids }) => [...ids]), [...whole.ids]);
    assert.deepEqual(steps.flatMap(({ logProbs }) => [...logProbs!]), [...final.logProbs!]);
    assert.equal(steps.map(({ text }) => text).join(""), whole.text);
    assert.equal(final.weightVersion, whole.weightVersion);
  });

  Deno.test(`${version}: an error inside a stream and the same error without a stream`, async () => {
    await using client = connect();
    const request = { text: "a", samplingParams: { maxNewTokens: 100_000 } };
    const expected = { code: "http", status: 400, serverMessage: /maximum context length/ };
    await assert.rejects(client.generate(request), expected);
    await assert.rejects(Array.fromAsync(client.stream(request)), expected);
  });

  Deno.test(`${version}: an abort by id ends a request with what was made`, async () => {
    await using client = connect();
    const rid = crypto.randomUUID();
    const steps: GenerationDelta[] = [];
    const request = { text: "a", rid, samplingParams: { maxNewTokens: 1500, ignoreEos: true } };
    for await (const step of client.stream(request)) {
      if (steps.push(step) === 3) await client.abort([rid]);
    }
    const { finishReason, ids } = steps.at(-1)!.final!;
    assert.equal(finishReason.type, "abort");
    assert.ok(ids.length >= 3 && ids.length < 1500);
  });

  Deno.test(`${version}: leaving a stream frees the server`, async () => {
    await using client = connect();
    const rid = crypto.randomUUID();
    const request = { text: "a", rid, samplingParams: { maxNewTokens: 1900, ignoreEos: true } };
    for await (const _ of client.stream(request)) break;
    // The same id is refused while the server still has the request.
    for (let tries = 0; tries < 20; tries++) {
      const again = client.generate({ ...request, samplingParams: { maxNewTokens: 1 } });
      const isFree = await again.then(() => true, () => false);
      if (isFree) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    assert.fail("the server still runs the request a second after it was left");
  });
}

Deno.test("0.5.23 tells the version of each run of tokens", async () => {
  await using client = new SGLangClient({ url: sharedNewest() });
  const sample = await client.generate({ text: "a", samplingParams: greedy });
  assert.deepEqual(sample.weightVersions, [
    { version: sample.weightVersion, start: 0, end: 12 },
  ]);
});

Deno.test("0.5.23 gives log-probabilities of chosen ids; 0.5.16 would end, and is not asked", async () => {
  await using newest = new SGLangClient({ url: sharedNewest() });
  const request = { inputIds: [5, 6], tokenIdsLogProb: [10, 20], samplingParams: greedy };
  const sample = await newest.generate(request);
  assert.equal(sample.tokenIdsLogProbs?.length, 12);
  for (const { ids } of sample.tokenIdsLogProbs!) assert.deepEqual([...ids], [10, 20]);
  await using older = new SGLangClient({ url: sharedServers()[0]! });
  await assert.rejects(older.generate(request), {
    code: "unsupported",
    message: /token_ids_logprob needs 0.5.22/,
  });
});

Deno.test("0.5.16: an engine sleeps while a request runs, wakes and generates as before", async () => {
  await using engine = await AsyncSGLang.connect(sharedServers()[0]!);
  const before = await engine.generate("import asyncio", greedy);
  const running = engine.generate("Once", { maxNewTokens: 1500, ignoreEos: true });
  await engine.sleep();
  assert.equal((await running).finishReason.type, "abort");
  await assert.rejects(engine.generate("x"), { code: "paused" });
  // Without a memory saver nothing was freed, so the weights are there.
  await engine.wake({ updateWeights: () => Promise.resolve() });
  assert.deepEqual((await engine.generate("import asyncio", greedy)).ids, before.ids);
});
