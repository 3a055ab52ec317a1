import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { modelPath, sharedRouter, sharedServers, versionUnderTest } from "../../_support/real.ts";

const targets = { "two servers": sharedServers, "a router": sharedRouter };
const prompts = Array.from({ length: 64 }, (_, i) => `prompt number ${i}`);

for (const [name, target] of Object.entries(targets)) {
  Deno.test(`through ${name}: 64 prompts run at once and come back in order`, async () => {
    await using engine = await AsyncSGLang.connect(target());
    const options = { maxNewTokens: 24, temperature: 0, ignoreEos: true, returnLogProbs: true };
    const started = performance.now();
    const samples = await engine.generate(prompts, options);
    const wallMs = performance.now() - started;
    const sumMs = samples.reduce((sum, { latencyMs }) => sum + latencyMs, 0);
    // The sum is what one by one would take at this load: far more when they overlap.
    assert.ok(sumMs > 5 * wallMs, `wall ${wallMs} ms, sum ${sumMs} ms`);
    for (const i of [0, 31, 63]) {
      const alone = await engine.generate(prompts[i]!, options);
      assert.equal(samples[i]!.promptTokens, alone.promptTokens);
      assert.deepEqual(samples[i]!.ids, alone.ids);
    }
    assert.equal(samples.every(({ logProbs }) => logProbs?.length === 24), true);
  });

  Deno.test(`through ${name}: ids, n, and what a router would lose`, async () => {
    await using engine = await AsyncSGLang.connect(target());
    const samples = await engine.generate({ inputIds: [[5, 6], [7]] }, {
      n: 2,
      maxNewTokens: 4,
      ignoreEos: true,
      returnPromptIds: true,
    });
    assert.ok(Array.isArray(samples));
    assert.deepEqual(samples.map(({ promptIds }) => promptIds?.join()), ["5,6", "5,6", "7", "7"]);
    const biased = await engine.generate("a", { logitBias: { 77: 100 }, maxNewTokens: 4 });
    assert.deepEqual([...biased.ids], [77, 77, 77, 77]);
    const stopped = await engine.generate("a", { logitBias: { 77: 100 }, stopTokenIds: [77] });
    assert.deepEqual(stopped.finishReason, { type: "stop", matched: 77 });
  });

  Deno.test(`through ${name}: a stream, and leaving it`, async () => {
    await using engine = await AsyncSGLang.connect(target());
    const options = { maxNewTokens: 16, temperature: 0, ignoreEos: true };
    const whole = await engine.generate("import asyncio", options);
    const steps = await Array.fromAsync(engine.stream("import asyncio", options));
    assert.deepEqual(steps.at(-1)?.final?.ids, whole.ids);
    for await (
      const _ of engine.stream("import asyncio", { maxNewTokens: 1900, ignoreEos: true })
    ) {
      break;
    }
    assert.deepEqual(engine.requests, { inFlight: 0, queued: 0 });
  });

  Deno.test(`through ${name}: aborting by id ends running and queued requests with what they have`, async () => {
    await using engine = await AsyncSGLang.connect(target(), { maxConcurrency: 8 });
    const rids = prompts.slice(0, 12).map(() => crypto.randomUUID());
    const call = engine.generate(prompts.slice(0, 12), {
      rids,
      maxNewTokens: 1900,
      ignoreEos: true,
      returnLogProbs: true,
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await engine.abort(rids);
    const samples = await call;
    assert.deepEqual(
      new Set(samples.map(({ finishReason }) => finishReason.type)),
      new Set(["abort"]),
    );
    assert.ok(samples.some(({ ids }) => ids.length > 0));
    for (const { ids, logProbs } of samples) assert.equal(logProbs?.length, ids.length);
  });

  Deno.test(`through ${name}: cancelling frees the servers`, async () => {
    await using engine = await AsyncSGLang.connect(target());
    const caller = new AbortController();
    const rids = prompts.slice(0, 8).map(() => crypto.randomUUID());
    const options = { rids, maxNewTokens: 1900, ignoreEos: true, signal: caller.signal };
    const call = engine.generate(prompts.slice(0, 8), options);
    setTimeout(() => caller.abort("enough"), 300);
    await assert.rejects(call, { code: "aborted", cause: "enough" });
    assert.deepEqual(engine.requests, { inFlight: 0, queued: 0 });
    // An id is refused while a server still has its request.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const again = await engine.generate(prompts.slice(0, 8), { rids, maxNewTokens: 1 });
    assert.equal(again.length, 8);
  });
}

Deno.test("infos of every server, and the weights' types and shapes from the model's files", async () => {
  await using engine = await AsyncSGLang.connect(sharedRouter());
  assert.deepEqual(engine.workers.map(({ url }) => url).sort(), sharedServers().sort());
  assert.equal(engine.getTpSize(), 1);
  assert.equal(engine.getDpSize(), 2);
  assert.equal(await engine.health(), true);
  assert.equal((await engine.load()).length, 2);
  const version = versionUnderTest() ?? "0.5.16";
  assert.deepEqual((await engine.serverInfo()).map(({ version }) => version), [version, version]);
  assert.deepEqual((await engine.modelInfo())[0]?.modelPath, modelPath("tiny"));
  const text = "import asyncio";
  assert.equal(await engine.detokenize(await engine.tokenize(text)), text);
  const metadata = await engine.getModelMetadata();
  assert.deepEqual(metadata.get("model.embed_tokens.weight"), {
    dtype: "float32",
    shape: [1024, 64],
  });
  assert.equal(metadata.size, 27);
});

Deno.test("a request that one server refuses ends the call with the server's words", async () => {
  await using engine = await AsyncSGLang.connect(sharedServers());
  await assert.rejects(engine.generate(["a", "b"], { maxNewTokens: 100_000 }), {
    code: "http",
    serverMessage: /maximum context length/,
  });
});

const generateScript = (url: string) => `
  import { AsyncSGLang } from ${JSON.stringify(import.meta.resolve("../../../src/engine/mod.ts"))};
  try {
    await using engine = await AsyncSGLang.connect(${JSON.stringify(url)});
    console.log((await engine.generate("a", { maxNewTokens: 3, ignoreEos: true })).ids.length);
  } catch (error) {
    console.log(error.code, error.flag);
  }
`;

async function runScript(code: string, flags: readonly string[]): Promise<string> {
  const config = new URL("../../../deno.json", import.meta.url).pathname;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    await Deno.writeTextFile(file, code);
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--config", config, ...flags, file],
    }).output();
    return new TextDecoder().decode(stdout).trim();
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("connecting and generating need net to that server alone; without it the flag is named", async () => {
  const [url] = sharedServers();
  const { host } = new URL(url!);
  assert.equal(await runScript(generateScript(url!), [`--allow-net=${host}`]), "3");
  assert.equal(await runScript(generateScript(url!), []), `permission --allow-net=${host}`);
});
