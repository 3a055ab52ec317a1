/** A stream whose server dies goes on on another one, from its ids. */
import assert from "node:assert/strict";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import type { GenerateOptions } from "../../../src/engine/mod.ts";
import type { Generation } from "../../../src/client/types.ts";
import type { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { startTiny } from "../embedded/_support.ts";

const greedy = { temperature: 0, maxNewTokens: 24, ignoreEos: true, returnLogProbs: true } as const;

interface Streamed {
  readonly ids: number[];
  readonly logProbs: number[];
  readonly final: Generation;
}

async function read(engine: AsyncSGLang, options: GenerateOptions): Promise<Streamed> {
  const ids: number[] = [];
  const logProbs: number[] = [];
  let final: Generation | null = null;
  for await (const step of engine.stream("Hello", options)) {
    ids.push(...step.ids);
    logProbs.push(...step.logProbs ?? []);
    final = step.final;
  }
  return { ids, logProbs, final: final! };
}

/** Two servers of which the first that is asked dies after some tokens. */
async function withDeath(
  afterTokens: number,
  test: (engine: AsyncSGLang, servers: readonly EmbeddedServer[]) => Promise<void>,
): Promise<void> {
  await using first = await startTiny();
  await using second = await startTiny();
  await using engine = await AsyncSGLang.connect([first.url, second.url], {
    retry: { retries: 0 },
  });
  first.setFaults({ crashAfterTokens: afterTokens });
  await test(engine, [first, second]);
}

Deno.test("the tokens of a stream that changed its server are those of one that did not", async () => {
  await using whole = await startTiny();
  await using alone = await AsyncSGLang.connect(whole.url);
  const expected = await read(alone, greedy);
  for (const afterTokens of [1, 9, 23]) {
    await withDeath(afterTokens, async (engine, [first]) => {
      const streamed = await read(engine, { ...greedy, max_new_tokens: 24 } as GenerateOptions);
      assert.equal(first!.stats.crashed, true, "the server was to die under the stream");
      assert.deepEqual(streamed.ids, expected.ids);
      assert.deepEqual([...streamed.final.ids], expected.ids);
      assert.equal(streamed.final.logProbs!.length, 24);
      assert.deepEqual(streamed.logProbs, [...streamed.final.logProbs!]);
      assert.deepEqual(streamed.final.finishReason, { type: "length", length: 24 });
      assert.equal(streamed.final.completionTokens, 24);
    });
  }
});

Deno.test("when no server is left, the stream fails with the reason", async () => {
  await using server = await startTiny({ faults: { crashAfterTokens: 5 } });
  await using engine = await AsyncSGLang.connect(server.url, { retry: { retries: 0 } });
  await assert.rejects(read(engine, greedy), { code: "unreachable" });
});

Deno.test("a stop string across the seam ends the stream as it would have without a seam", async () => {
  await using whole = await startTiny();
  await using alone = await AsyncSGLang.connect(whole.url);
  const { final } = await read(alone, greedy);
  const text = final.text!;
  let across = 0;
  for (const afterTokens of [1, 6, 13]) {
    const seam = (await alone.detokenize([...final.ids].slice(0, afterTokens))).length;
    for (const [before, behind] of [[1, 1], [3, 1], [1, 3], [2, 6]] as const) {
      const stop = text.slice(Math.max(0, seam - before), seam + behind);
      for (const noStopTrim of [false, true]) {
        const options = { ...greedy, stop: [stop, "never there"], noStopTrim };
        const expected = await read(alone, options);
        await withDeath(afterTokens, async (engine) => {
          const streamed = await read(engine, options);
          assert.deepEqual(streamed.ids, expected.ids, JSON.stringify({ afterTokens, stop }));
          assert.equal(streamed.final.text, expected.final.text);
          assert.deepEqual(streamed.final.finishReason, expected.final.finishReason);
          assert.equal(streamed.final.logProbs!.length, expected.ids.length);
        });
        if (expected.ids.length > afterTokens) across++;
      }
    }
  }
  assert.ok(across > 0, "no stop string lay across a seam");
});

Deno.test("a seed goes on over the seam", async () => {
  const deterministic = { enableDeterministicInference: true };
  await using whole = await startTiny(deterministic);
  await using alone = await AsyncSGLang.connect(whole.url);
  const options = { maxNewTokens: 24, ignoreEos: true, temperature: 1, samplingSeed: 7 };
  const expected = await read(alone, options);
  await using first = await startTiny(deterministic);
  await using second = await startTiny(deterministic);
  await using engine = await AsyncSGLang.connect([first.url, second.url], {
    retry: { retries: 0 },
  });
  first.setFaults({ crashAfterTokens: 9 });
  const streamed = await read(engine, options);
  assert.equal(first.stats.crashed, true);
  assert.deepEqual(streamed.ids, expected.ids);
});

Deno.test("what cannot go on over a seam is named with the error, and nothing is made up", async () => {
  for (
    const [name, value] of [
      ["presencePenalty", 1],
      ["frequencyPenalty", 0.5],
      ["repetitionPenalty", 1.1],
      ["regex", "a+"],
      ["jsonSchema", "{}"],
      ["ebnf", "root ::= [a]"],
    ] as const
  ) {
    await withDeath(9, async (engine, [, second]) => {
      const options = { ...greedy, [name]: value };
      const wire = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      await assert.rejects(read(engine, options), (error: Error & { code?: string }) => {
        // The test double has no grammars and refuses them itself.
        if (error.code === "http") return true;
        assert.equal(error.code, "unreachable");
        assert.match(
          error.message,
          new RegExp(`cannot go on on another server after \\d+ .*${wire}`),
        );
        return true;
      });
      assert.equal(second!.stats.generatedTokens, 0);
    });
  }
});
