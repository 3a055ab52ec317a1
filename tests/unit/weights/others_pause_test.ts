/** A server is left paused or generating as a sync found it. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { SGLangClient } from "../../../src/client/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { SGLangError } from "../../../src/errors.ts";
import { silentLogger } from "../../../src/internal/logger.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme, type WeightSyncOptions } from "../../../src/weights/mod.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

/** Knows without a wait whether the server is paused; how that is asked has tests of its own. */
class Seeing extends SGLangClient {
  readonly #server: EmbeddedServer;

  constructor(server: EmbeddedServer) {
    super({ url: server.url });
    this.#server = server;
  }

  override checkPaused(): Promise<boolean> {
    return Promise.resolve(this.#server.stats.paused);
  }
}

interface Bench extends AsyncDisposable {
  readonly server: EmbeddedServer;
  /** Whoever else has the server. */
  readonly operator: SGLangClient;
  readonly warnings: readonly string[];
  readonly sync: (call?: { signal?: AbortSignal; onBytes?: () => void }) => Promise<boolean>;
}

/** A server, a sender, and somebody else who pauses and resumes it. */
async function bench(options: Partial<WeightSyncOptions> = {}): Promise<Bench> {
  await using stack = new AsyncDisposableStack();
  const model = await tinyCheckpoint();
  const server = stack.use(await EmbeddedServer.start({ model, version: "0.5.16" }));
  const operator = stack.use(new SGLangClient({ url: server.url }));
  const client = stack.use(new Seeing(server));
  const warnings: string[] = [];
  const scheme = new SGLangWeightSyncScheme(
    {
      workers: [{ url: server.url, client }],
      transport: "gloo",
      bucketBytes: 100_000,
      soleTrainer: true,
      logger: { ...silentLogger, warn: (message) => warnings.push(message) },
      ...options,
    } as WeightSyncOptions,
  );
  const sender = stack.use(scheme.createSender());
  await sender.initAllWorkersGroup();
  const owned = stack.move();
  return {
    server,
    operator,
    warnings,
    async sync({ signal, onBytes } = {}) {
      const report = await sender.updateWeights(safetensors(model), {
        signal,
        onProgress: ({ bytesDone }) => bytesDone > 0 && onBytes?.(),
      });
      return report.servers[0]!.paused;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

Deno.test("a server that somebody paused stays paused, under the new weights", async () => {
  await using it = await bench();
  assert.equal(await it.sync(), false);
  await it.operator.pause("retract");
  assert.equal(await it.sync(), true, "the report says so");
  assert.deepEqual([it.server.stats.paused, it.server.stats.weightVersion], [true, "2"]);
  assert.match(it.warnings.join(), /was paused before this sync; it stays paused/);
  await it.operator.resume();
  assert.equal(await it.sync(), false);
  assert.equal(it.server.stats.paused, false);
});

Deno.test("the first sync resumes what a killed trainer may have left, unless told to keep it", async () => {
  for (const whenPaused of [undefined, "resume", "keep"] as const) {
    await using it = await bench({ whenPaused });
    await it.operator.pause("abort");
    await it.sync();
    assert.equal(it.server.stats.paused, whenPaused === "keep", whenPaused);
    assert.equal(it.warnings.length, whenPaused === "resume" ? 0 : 1);
  }
});

Deno.test("a mark tells a killed trainer, whose pause is never kept", async () => {
  await using it = await bench({ whenPaused: "keep" });
  await it.operator.pause("abort");
  await it.operator.updateWeightVersion("incomplete:7");
  await it.sync();
  assert.equal(it.server.stats.paused, false);
});

Deno.test("after any syncs, whole or aborted, a server is paused if its owner wants that", async () => {
  const step = fc.constantFrom("pause", "resume", "sync", "abort early", "abort at a bucket");
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      await using it = await bench();
      await it.sync();
      let isWanted = false;
      for (const [i, step] of steps.entries()) {
        if (step === "pause" || step === "resume") {
          isWanted = step === "pause";
          await (isWanted ? it.operator.pause("in_place") : it.operator.resume());
          continue;
        }
        const stop = new AbortController();
        const call = {
          "sync": {},
          "abort early": { signal: AbortSignal.abort() },
          "abort at a bucket": { signal: stop.signal, onBytes: () => stop.abort() },
        }[step];
        const isDone = await it.sync(call).then(() => true, (error) => {
          assert.ok(error instanceof SGLangError);
          return false;
        });
        // What holds a part of the new weights serves nobody, until a sync has repaired it.
        if (!isDone && it.server.stats.weightVersion.startsWith("incomplete:")) {
          assert.equal(it.server.stats.paused, true);
          await it.sync();
          // The pause of a failed sync is its own: whose it was before is not known any more.
          isWanted = it.server.stats.paused;
          assert.equal(isWanted, false);
        }
        assert.equal(it.server.stats.paused, isWanted, `step ${i}, ${step}`);
      }
    }),
    { numRuns: 30 },
  );
});
