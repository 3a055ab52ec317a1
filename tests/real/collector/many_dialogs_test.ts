import assert from "node:assert/strict";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { EnvironmentPool, promptEnvironment } from "../../../src/collector/environments/mod.ts";
import { LLMCollector } from "../../../src/collector/mod.ts";
import { gaussianOf } from "../../../examples/evolution_strategies/strategy.ts";

// Here and not among the unit tests only because it takes seconds.
Deno.test("10,000 dialogs on a server with random faults: none is lost, none comes twice", async () => {
  const total = 10_000;
  const random = gaussianOf(5);
  const folder = await Deno.makeTempDir();
  try {
    await makeTinyCheckpoint(folder);
    await using server = await EmbeddedServer.start({ model: folder, seed: 1 });
    await using engine = await AsyncSGLang.connect(server.url);
    const policy = new SGLangWrapper(engine, {
      generateKwargs: { maxNewTokens: 1 },
      tokenizer: folder,
    });
    let sandboxFaults = 0;
    const pool = new EnvironmentPool(() => {
      const inner = promptEnvironment({
        prompts: ["Hi", "Go"],
        reward: ({ ids }) => ids.length,
      });
      return {
        reset: inner.reset,
        step: (action) => {
          const draw = random();
          if (draw > 2.5) {
            sandboxFaults++;
            throw new Error("sandbox died");
          }
          if (draw < -2.5) server.setFaults({ unavailable: 1, dropConnections: 1 });
          return inner.step(action);
        },
      };
    }, { size: 64 });
    await using collector = new LLMCollector(pool, {
      policy,
      dialogTurnsPerBatch: 1_000,
      totalDialogs: total,
      yieldCompletedTrajectories: true,
      dialogRetries: 20,
    });
    const dialogs: number[] = [];
    for await (const batch of collector) dialogs.push(...batch.rows.map((row) => row.dialog));
    assert.deepEqual(
      dialogs.toSorted((a, b) => a - b),
      Array.from({ length: total }, (_, dialog) => dialog),
    );
    const { dialogsStarted, dialogsCompleted, dialogsFailed, retries } = collector.stats;
    assert.deepEqual([dialogsStarted, dialogsCompleted, dialogsFailed], [total, total, 0]);
    assert.ok(sandboxFaults > 20 && retries >= sandboxFaults);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
