import assert from "node:assert/strict";
import fc from "fast-check";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { partSeed, sampleSeed } from "../../../src/internal/sample_seed.ts";
import {
  answer,
  healthyServer,
  serverInfo,
  type StandIn,
  standIn,
  type StandInHandler,
} from "../../_support/http_stand_in.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

const options = { vocabSize: 1000, retry: { retries: 0 } };

function server(deterministic: boolean, handlers: Record<string, StandInHandler> = {}): StandIn {
  const info = { ...serverInfo, enable_deterministic_inference: deterministic };
  return standIn({
    ...healthyServer,
    "GET /server_info": () => Response.json(info),
    "POST /generate": ({ body }) => {
      const { n = 1 } = body!.sampling_params as { n?: number };
      return Response.json(n === 1 ? answer() : Array.from({ length: n }, () => answer()));
    },
    ...handlers,
  });
}

interface Sent {
  readonly text: string;
  readonly rid: string;
  readonly n: number;
  readonly seed: number | undefined;
}

/** What was sent to `/generate` since `from`. */
function sentTo({ requests }: StandIn, from = 0): Sent[] {
  return requests.slice(from).filter(({ path }) => path === "/generate").map(({ body }) => {
    const { n = 1, sampling_seed: seed } = body!.sampling_params as Record<string, number>;
    return { text: body!.text as string, rid: body!.rid as string, n: n!, seed };
  });
}

const seedsOf = (sent: readonly Sent[]) => sent.map(({ text, seed }) => `${text} ${seed}`).sort();

Deno.test("samples of one seed have different seeds, the first the seed itself, all safe", () => {
  const index = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  // The lowest of all is left out: its neighbour below cannot be written exactly.
  const seed = fc.maxSafeInteger().filter((one) => one > Number.MIN_SAFE_INTEGER + 2 ** 32);
  fc.assert(fc.property(seed, index, index, (seed, a, b) => {
    assert.equal(sampleSeed(seed, 0), seed);
    assert.equal(partSeed(seed, 0), seed);
    assert.equal(sampleSeed(seed, a) === sampleSeed(seed, b), a === b);
    assert.ok(Number.isSafeInteger(sampleSeed(seed, a)));
    assert.ok(Number.isSafeInteger(partSeed(seed, a)));
    if (a > 0 && b > 0) assert.equal(partSeed(seed, a) === partSeed(seed, b), a === b);
    assert.equal(sampleSeed(seed, a) < 0, seed < 0);
  }));
  // These are documented, and runs are repeated by them.
  assert.deepEqual([0, 1, 2, 3].map((i) => sampleSeed(7, i)), KNOWN_SAMPLES);
  assert.deepEqual([0, 1, 2].map((i) => partSeed(7, i)), KNOWN_PARTS);
});

const KNOWN_SAMPLES = [7, 2462723849, 1020716020, 454327755];
const KNOWN_PARTS = [7, 654565011, 472821392];

Deno.test("on a deterministic server every sample of a prompt is sent with a seed of its own", async () => {
  await using one = server(true);
  await using engine = await AsyncSGLang.connect(one.url, options);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }),
      fc.option(fc.integer({ min: 1, max: 5 }), { nil: undefined }),
      fc.option(fc.nat(), { nil: undefined }),
      fc.constantFrom("samplingSeed", "seed", "sampling_seed"),
      async (prompts, n, seed, name) => {
        const call = {
          ...n === undefined ? {} : { n },
          ...seed === undefined ? {} : { [name]: seed },
        };
        const send = async () => {
          const from = one.requests.length;
          const samples = await engine.generate(prompts, call);
          assert.equal(samples.length, prompts.length * (n ?? 1));
          return sentTo(one, from);
        };
        const sent = await send();
        assert.equal(sent.length, prompts.length * (n ?? 1));
        assert.ok(sent.every((request) => request.n === 1 && request.seed !== undefined));
        assert.equal(new Set(seedsOf(sent)).size, sent.length);
        assert.equal(new Set(sent.map(({ rid }) => rid)).size, sent.length);
        const again = seedsOf(await send());
        if (seed === undefined) {
          assert.equal(new Set([...seedsOf(sent), ...again]).size, 2 * sent.length);
        } else assert.deepEqual(again, seedsOf(sent));
        // What else is asked for does not matter to a prompt.
        const [first] = prompts;
        if (seed !== undefined) assert.ok(again.includes(`${first} ${seed}`));
      },
    ),
    { numRuns: 25 },
  );
});

Deno.test("a stream has a seed of its own too; the seed of the defaults differs by call", async () => {
  await using one = server(true);
  await using engine = await AsyncSGLang.connect(one.url, {
    ...options,
    samplingDefaults: { samplingSeed: 7 },
  });
  for (let i = 0; i < 2; i++) await engine.generate("a", { n: 2 });
  await using again = await AsyncSGLang.connect(one.url, {
    ...options,
    samplingDefaults: { samplingSeed: 7 },
  });
  for (let i = 0; i < 2; i++) await again.generate("a", { n: 2 });
  const seeds = seedsOf(sentTo(one));
  assert.deepEqual([seeds.length, new Set(seeds).size], [8, 4]);

  await using plain = await AsyncSGLang.connect(one.url, options);
  const from = one.requests.length;
  for (let i = 0; i < 2; i++) {
    // The stand-in does not stream: only what was sent matters here.
    await assert.rejects(async () => {
      for await (const _ of plain.stream("a")) break;
    });
  }
  const streamed = sentTo(one, from);
  assert.equal(new Set(seedsOf(streamed)).size, 2);
  assert.ok(streamed.every(({ seed }) => seed !== undefined));
});

Deno.test("on other servers nothing changes: one request, no seed, and a given one is refused", async () => {
  await using one = server(false);
  await using engine = await AsyncSGLang.connect(one.url, options);
  await engine.generate("a", { n: 4 });
  await engine.generate("a");
  const sent = sentTo(one).map(({ n, seed }) => ({ n, seed }));
  assert.deepEqual(sent, [{ n: 4, seed: undefined }, { n: 1, seed: undefined }]);
  await assert.rejects(engine.generate("a", { n: 4, samplingSeed: 7 }), { code: "unsupported" });
});

Deno.test("beams are not samples: they stay one request", async () => {
  await using one = server(true, {
    "GET /server_info": () =>
      Response.json({ ...serverInfo, version: "0.5.23", enable_deterministic_inference: true }),
  });
  await using engine = await AsyncSGLang.connect(one.url, options);
  await engine.generate("a", { n: 2, beamWidth: 2 });
  assert.deepEqual(sentTo(one).map(({ n, seed }) => ({ n, seed })), [{ n: 2, seed: undefined }]);
});

Deno.test("in a mixed fleet only deterministic servers get seeds", async () => {
  await using one = server(true);
  await using other = server(false);
  await using engine = await AsyncSGLang.connect([one.url, other.url], options);
  await engine.generate("a", { n: 24 });
  const [sent, sentToOther] = [sentTo(one), sentTo(other)];
  assert.equal(sent.length + sentToOther.length, 24);
  assert.ok(sent.length > 0 && sentToOther.length > 0);
  assert.ok(sent.every(({ seed }) => seed !== undefined));
  assert.ok(sentToOther.every(({ seed, n }) => seed === undefined && n === 1));
});

Deno.test("an id that was given aborts all samples of its prompt, and no others", async () => {
  const running = new Map<string, PromiseWithResolvers<void>>();
  const arrived = Promise.withResolvers<void>();
  await using one = server(true, {
    "POST /generate": async ({ body }) => {
      const ended = Promise.withResolvers<void>();
      running.set(body!.rid as string, ended);
      if (running.size === 6) arrived.resolve();
      await ended.promise;
      return Response.json(answer([], { finish_reason: { type: "abort", message: "Aborted" } }));
    },
    "POST /abort_request": ({ body }) => {
      const { rid } = body as { rid: string };
      running.get(rid)?.resolve();
      return new Response(null);
    },
  });
  await using engine = await AsyncSGLang.connect(one.url, options);
  const call = engine.generate(["a"], { n: 4, rids: ["mine"] });
  const rest = engine.generate(["b"], { n: 2, rids: ["ours"] });
  await arrived.promise;
  await engine.abort(["mine"]);
  const samples = await call;
  assert.deepEqual(samples.map(({ finishReason }) => finishReason.type), Array(4).fill("abort"));
  assert.deepEqual(engine.requests, { inFlight: 2, queued: 0 });
  for (const { resolve } of running.values()) resolve();
  await rest;
});

Deno.test("a sample that fails ends the others of its prompt; other prompts count by themselves", async () => {
  await using one = server(true, {
    "POST /generate": ({ body }) =>
      body!.text === "bad"
        ? Response.json({ error: { message: "no" } }, { status: 400 })
        : Response.json(answer()),
  });
  await using engine = await AsyncSGLang.connect(one.url, options);
  await assert.rejects(engine.generate("bad", { n: 3 }), { code: "http" });
  const progress: unknown[] = [];
  const onProgress = (step: unknown) => progress.push(step);
  await assert.rejects(
    engine.generate(["bad", "good"], { n: 3, onProgress }),
    (error: { rows: unknown; failures: readonly { row: number }[]; partial: unknown[] }) => {
      assert.deepEqual(error.rows, [1]);
      assert.deepEqual(error.failures.map(({ row }) => row), [0]);
      assert.equal(error.partial.length, 3);
      return true;
    },
  );
  assert.deepEqual(progress, [{ done: 1, total: 2 }]);
});

Deno.test("a deterministic server makes clones; through the engine four samples are four", async () => {
  await using folder = await temporaryFolder();
  await makeTinyCheckpoint(folder.path, { seed: 0 });
  await using embedded = await EmbeddedServer.start({
    model: folder.path,
    enableDeterministicInference: true,
  });
  const raw = async (n: number, more: Record<string, unknown> = {}) => {
    const sampling = { max_new_tokens: 12, ignore_eos: true, n, ...more };
    const body = JSON.stringify({ input_ids: [5, 6, 7], sampling_params: sampling });
    const got = await (await fetch(`${embedded.url}/generate`, { method: "POST", body })).json();
    return [got].flat().map((one: { output_ids: number[] }) => one.output_ids.join());
  };
  const clones = [...await raw(4), ...await raw(1), ...await raw(2, { sampling_seed: 42 })];
  assert.equal(new Set(clones).size, 1);
  assert.notEqual((await raw(1, { sampling_seed: 7 }))[0], clones[0]);

  await using engine = await AsyncSGLang.connect(embedded.url);
  const four = async (samplingSeed?: number) => {
    const call = { n: 4, maxNewTokens: 12, ignoreEos: true, samplingSeed };
    return (await engine.generate({ inputIds: [5, 6, 7] }, call) as unknown as {
      ids: Int32Array;
    }[])
      .map(({ ids }) => ids.join());
  };
  const seeded = await four(7);
  assert.equal(new Set(seeded).size, 4);
  assert.deepEqual(await four(7), seeded);
  assert.equal(new Set([...await four(), ...await four(), ...await four(8), ...seeded]).size, 16);
});

Deno.test("a server that is not deterministic ignores seeds, as the real one does, and says so", async () => {
  await using folder = await temporaryFolder();
  await makeTinyCheckpoint(folder.path, { seed: 0 });
  await using embedded = await EmbeddedServer.start({ model: folder.path });
  const info = await (await fetch(`${embedded.url}/server_info`)).json();
  assert.equal(info.enable_deterministic_inference, false);
  const sampling = { max_new_tokens: 12, ignore_eos: true, n: 4, sampling_seed: 7 };
  const body = JSON.stringify({ input_ids: [5, 6, 7], sampling_params: sampling });
  const got = await (await fetch(`${embedded.url}/generate`, { method: "POST", body })).json();
  assert.equal(new Set(got.map((one: { output_ids: number[] }) => one.output_ids.join())).size, 4);
});
