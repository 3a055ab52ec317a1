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
