/** Every push of a trainer, one after another, until somebody ends it. */
import assert from "node:assert/strict";
import { type AdapterOutcome, syncAdapter, TrainerLink } from "../../../src/trainer/mod.ts";
import type { WeightSyncReport } from "../../../src/weights/mod.ts";
import { until } from "../../_support/clock.ts";
import { randomTensors, RawTrainer, readWhole } from "../../_support/raw_trainer.ts";

const AT = "tcp:127.0.0.1:0";
const tensors = randomTensors([1000, 10]);

/** A sender that reads what it is given, and fails where the version says so. */
function senderInto(received: string[]) {
  return {
    async updateWeights(source: Parameters<typeof readWhole>[0], { version = "1" } = {}) {
      const read = await readWhole(source);
      assert.deepEqual(read.get("t0"), tensors[0]!.data);
      if (version === "bad") throw new Error("the servers refuse it");
      received.push(version);
      return { version, durationMs: 5, sizeBytes: 1010 } as unknown as WeightSyncReport;
    },
  };
}

/** Loads adapters by keeping their names. */
function adaptersInto(received: string[]) {
  return {
    async updateAdapter(
      adapter: { readonly tensors: Parameters<typeof readWhole>[0] },
      { name = "" }: { readonly name?: string | undefined },
    ): Promise<AdapterOutcome> {
      const read = await readWhole(adapter.tensors);
      received.push(name);
      return { name: `${name}@1`, byteLength: read.size, durationMs: 1 };
    },
  };
}

/** Pushes an adapter, and answers what is asked for. */
async function pushAdapter(trainer: RawTrainer, push: number, name: string) {
  const described = tensors.map(({ name, dtype, shape }) => [name, dtype, shape]);
  const adapter = { name, config: { r: 4, lora_alpha: 8 } };
  await trainer.say({
    type: "push",
    push,
    version: null,
    kind: "adapter",
    adapter,
    tensors: described,
  });
  for (;;) {
    const message = await trainer.hear();
    if (message.type === "done" || message.type === "failed") return message;
    if (message.type === "want") await trainer.bytes(push, tensors[Number(message.tensor)]!.data);
  }
}

Deno.test("weights and adapters go each to their sender; a failure is told, and the next push works", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const weights: string[] = [];
  const adapters: string[] = [];
  const errors: string[] = [];
  const stop = new AbortController();
  const served = link.serve(senderInto(weights), {
    adapters: adaptersInto(adapters),
    signal: stop.signal,
    onError: ({ message }) => errors.push(message),
  });
  assert.equal((await trainer.push(1, tensors, { version: "a" })).version, "a");
  const failed = await trainer.push(2, tensors, { version: "bad" });
  assert.deepEqual([failed.type, failed.message], ["failed", "the servers refuse it"]);
  assert.equal((await pushAdapter(trainer, 3, "policy")).version, "policy@1");
  assert.equal((await trainer.push(4, tensors, { version: "b" })).version, "b");
  assert.deepEqual([weights, adapters, errors], [["a", "b"], ["policy"], [
    "the servers refuse it",
  ]]);
  stop.abort();
  await served;
});

Deno.test("serving ends in peace when the link is closed", async () => {
  const link = await TrainerLink.listen(AT);
  const served = link.serve(senderInto([]));
  await link.close();
  await served;
});

Deno.test("an adapter for a sender of whole weights, and weights for adapters, are refused with the way out", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const [synced, told] = await Promise.all([
    link.syncNext(senderInto([])).catch((error) => error),
    pushAdapter(trainer, 1, "policy"),
  ]);
  assert.match(synced.message, /the adapter "policy".*syncAdapter\(\)/);
  assert.deepEqual([told.type, told.message], ["failed", synced.message]);
  const whole = trainer.push(2, tensors);
  const push = await link.nextPush();
  await assert.rejects(syncAdapter(push, adaptersInto([])), {
    code: "validation",
    message: /syncPush\(\)/,
  });
  assert.equal((await whole).code, "validation");
});

Deno.test("of trainers beyond the most, the last is turned away", async () => {
  await using link = await TrainerLink.listen(AT, { maxTrainers: 1 });
  using _first = await RawTrainer.greeted(link.address);
  await until(() => link.trainers.length === 1);
  using second = await RawTrainer.connect(link.address);
  assert.ok(await second.isClosed());
  assert.equal(link.trainers.length, 1);
});
