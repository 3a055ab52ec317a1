import assert from "node:assert/strict";
import { HttpError, PartialResultError } from "../../../src/errors.ts";
import type { Generation } from "../../../src/client/types.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { GenerateOptions } from "../../../src/engine/mod.ts";
import {
  answer,
  eventStream,
  healthyServer,
  type SeenRequest,
  standIn,
} from "../../_support/http_stand_in.ts";

/** A server whose sample is the number of its prompt, so that order can be seen. */
const echoing = {
  ...healthyServer,
  "POST /generate": ({ body }: SeenRequest) => {
    const sample = answer([Number(body?.text ?? (body?.input_ids as number[])[0])]);
    const { n = 1 } = body?.sampling_params as { n?: number };
    return Response.json(n === 1 ? sample : Array(n).fill(sample));
  },
};

const options = { vocabSize: 1000, retry: { retries: 0 } };

function generateBodies({ requests }: { requests: readonly SeenRequest[] }) {
  return requests.filter(({ path }) => path === "/generate").map(({ body }) => body!);
}

// case 4

Deno.test("one prompt gives one sample, a list of one a list of one", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  assert.deepEqual((await engine.generate("7")).ids, Int32Array.of(7));
  const list = await engine.generate(["7"]);
  assert.equal(list.length, 1);
  assert.deepEqual((await engine.generateBatch(["7", "8"])).map(({ ids }) => ids[0]), [7, 8]);
});

// case 5

Deno.test("samples come in the order of the prompts, whichever is done first", async () => {
  const held = Promise.withResolvers<void>();
  await using server = standIn({
    ...echoing,
    "POST /generate": async (request) => {
      if (request.body?.text === "0") await held.promise;
      if (request.body?.text === "2") held.resolve();
      return echoing["POST /generate"](request);
    },
  });
  await using engine = await AsyncSGLang.connect(server.url, options);
  const samples = await engine.generate(["0", "1", "2"]);
  assert.deepEqual(samples.map(({ ids }) => ids[0]), [0, 1, 2]);
});

// case 6

Deno.test("ids go as input_ids, flat ids are one prompt, nested ids a list", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  const one = await engine.generate({ inputIds: [1, 2] });
  assert.equal(Array.isArray(one), false);
  const two = await engine.generate({ inputIds: [[1], Int32Array.of(2)] });
  assert.ok(Array.isArray(two) && two.length === 2);
  assert.deepEqual(two[1]?.promptIds, Int32Array.of(2));
  for (const body of generateBodies(server)) assert.equal("text" in body, false);
  assert.deepEqual(generateBodies(server)[0]?.input_ids, [1, 2]);
});

// case 7

Deno.test("both kinds of prompt or none are refused", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  const both = { text: "a", inputIds: [1] };
  await assert.rejects(engine.generate(both as never), {
    code: "validation",
    message: /Cannot provide both/,
  });
  await assert.rejects(engine.generate({} as never), {
    code: "validation",
    message: /Must provide either/,
  });
});

// case 8

Deno.test("no prompts give no samples and send nothing", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  assert.deepEqual(await engine.generate([]), []);
  assert.deepEqual(await engine.generate({ inputIds: [] }), []);
  assert.equal(generateBodies(server).length, 0);
});

// case 10

Deno.test("request fields among the options go to the top level, under SGLang's names too", async () => {
  const logProbs = { output_token_logprobs: [[-1, 1, null]] };
  await using server = standIn({
    ...healthyServer,
    "POST /generate": () => Response.json(answer([1], logProbs)),
  });
  await using engine = await AsyncSGLang.connect(server.url, options);
  await engine.generate("1", { logProbStartLen: 0, topLogProbs: 2 });
  const sglangNames = {
    logprob_start_len: 0,
    top_logprobs_num: 2,
    return_text_in_logprobs: true,
    stream: false,
  };
  await engine.generate("1", sglangNames as GenerateOptions);
  await engine.generate(
    "1",
    { samplingParams: sglangNames as GenerateOptions, stream: false } as GenerateOptions,
  )
    .then(
      () => assert.fail("stream among sampling parameters"),
      (error) => assert.match(error.message, /use stream\(\)/),
    );
  const [own, sglang] = generateBodies(server);
  for (const body of [own, sglang]) {
    assert.equal(body?.return_logprob, true);
    assert.equal(body?.logprob_start_len, 0);
    assert.equal(body?.top_logprobs_num, 2);
    assert.equal("top_logprobs_num" in (body?.sampling_params as object), false);
  }
  assert.equal(sglang?.return_text_in_logprobs, true);
});

// case 10

Deno.test("stream true is refused with the method to use", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  const streamed = { stream: true } as GenerateOptions;
  await assert.rejects(engine.generate("1", streamed), /use stream\(\)/);
});

// case 24

Deno.test("parameters given directly win over samplingParams", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  await engine.generate("1", { samplingParams: { temperature: 0.1, topP: 0.5 }, temperature: 0.9 });
  const sent = generateBodies(server)[0]?.sampling_params as Record<string, unknown>;
  assert.deepEqual([sent.temperature, sent.top_p], [0.9, 0.5]);
});

// case 31

Deno.test("an unknown option is refused with the nearest and nothing is sent", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  const wrong = { returnLogprob: true, maxNewTokns: 1 };
  await assert.rejects(
    engine.generate("1", wrong as GenerateOptions),
    /"returnLogprob".*"returnLogProbs"/,
  );
  const misspelt = { maxNewTokns: 1 } as GenerateOptions;
  await assert.rejects(engine.generate("1", misspelt), /"maxNewTokns".*"maxNewTokens"/);
  assert.equal(generateBodies(server).length, 0);
});

Deno.test("n samples of one prompt are a list whenever n is given, prompt by prompt for several", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  assert.equal((await engine.generate("1", { n: 1 })).length, 1);
  assert.equal((await engine.generate("1", { n: 3 })).length, 3);
  const samples = await engine.generate(["1", "2"], { samplingParams: { n: 2 } });
  assert.deepEqual(samples.map(({ ids }) => ids[0]), [1, 1, 2, 2]);
  await assert.rejects(engine.generate("1", { samplingParams: { n: 2 } }), /give n directly/);
});

Deno.test("one wrong prompt among many: nothing is sent", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  await assert.rejects(engine.generate({ inputIds: [[1], [1000]] }), /from 0 to 999, got 1000/);
  const notText = ["a", 1] as unknown as string[];
  await assert.rejects(engine.generate(notText), /prompts\[1\] must be a text/);
  assert.equal(generateBodies(server).length, 0);
});

Deno.test("request ids are one for each prompt and all different", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  await engine.generate(["1", "2"], { rids: ["a", "b"] });
  assert.deepEqual(generateBodies(server).map(({ rid }) => rid), ["a", "b"]);
  await assert.rejects(
    engine.generate(["1", "2"], { rids: ["a"] }),
    /one id for each of 2 prompts/,
  );
  await assert.rejects(engine.generate(["1", "2"], { rids: ["a", "a"] }), /differ/);
});

Deno.test("onProgress is called as each prompt is done", async () => {
  await using server = standIn(echoing);
  await using engine = await AsyncSGLang.connect(server.url, options);
  const seen: number[] = [];
  await engine.generate(["1", "2", "3"], {
    onProgress: ({ done, total }) => seen.push(done, total),
  });
  assert.deepEqual(seen, [1, 3, 2, 3, 3, 3]);
});

Deno.test("a stream of the engine gives the steps of one prompt", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": () => eventStream([answer([1, 2])]),
  });
  await using engine = await AsyncSGLang.connect(server.url, options);
  const steps = await Array.fromAsync(engine.stream([3, 4], { maxNewTokens: 2 }));
  assert.deepEqual(steps.at(-1)?.final?.ids, Int32Array.of(1, 2));
  await assert.rejects(Array.fromAsync(engine.stream("a", { n: 2 })), /one sample of one prompt/);
});

Deno.test("a prompt that a server refuses is named, and the others are generated", async () => {
  await using server = standIn({
    ...healthyServer,
    "POST /generate": ({ body }) =>
      body!.text === "prompt 2"
        ? Response.json({ error: { message: "too long" } }, { status: 400 })
        : Response.json(answer([Number(String(body!.text).slice(-1))])),
  });
  await using engine = await AsyncSGLang.connect(server.url);
  const prompts = Array.from({ length: 5 }, (_, index) => `prompt ${index}`);
  await assert.rejects(engine.generate(prompts), (error) => {
    assert.ok(error instanceof PartialResultError);
    assert.match(error.message, /1 of 5 rows failed \(row 2: .*too long/);
    assert.deepEqual(error.rows, [0, 1, 3, 4]);
    const partial = error.partial as Generation[];
    assert.deepEqual(partial.map(({ ids }) => ids[0]), [0, 1, 3, 4]);
    return true;
  });
  await assert.rejects(engine.generate(["prompt 2"]), HttpError);
  await assert.rejects(engine.generate(["prompt 2", "prompt 2"]), HttpError);
});
