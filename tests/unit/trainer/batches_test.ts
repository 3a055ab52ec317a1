/** Rows to a trainer in another process. */
import assert from "node:assert/strict";
import { rolloutFile } from "../../../src/collector/export/safetensors.ts";
import { RolloutBatch } from "../../../src/collector/mod.ts";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import { turns, until } from "../../_support/clock.ts";
import { RawTrainer } from "../../_support/raw_trainer.ts";
import { rowOf } from "../../_support/rollout_rows.ts";

const AT = "tcp:127.0.0.1:0";

function batchOf(...dialogs: number[]): RolloutBatch {
  return new RolloutBatch({
    rows: dialogs.map((dialog) => rowOf(dialog)),
    shape: [dialogs.length],
  });
}

function bytesOf(batch: RolloutBatch): Uint8Array {
  return new Uint8Array([...rolloutFile(batch).pieces()].flatMap((piece) => [...piece]));
}

/** Takes the next batch, as a trainer that lives. */
async function take(trainer: RawTrainer): Promise<{ number: unknown; bytes: Uint8Array }> {
  await trainer.say({ type: "take" });
  const { batch: number, bytes: length } = await trainer.await("batch");
  const bytes = await trainer.batch(Number(length));
  await trainer.say({ type: "taken", batch: number });
  return { number, bytes };
}

Deno.test("batches go in order to the trainer that asks, and count as sent when it has them", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const batches = [batchOf(1, 2), batchOf(3)];
  const sent = batches.map((batch) => link.sendBatch(batch));
  for (const [i, batch] of batches.entries()) {
    const taken = await take(trainer);
    assert.equal(taken.number, i + 1);
    assert.deepEqual(taken.bytes, bytesOf(batch));
    await sent[i];
  }
});

Deno.test("a trainer that dies within a batch leaves it whole, with its number, to the next", async () => {
  await using link = await TrainerLink.listen(AT);
  const batch = batchOf(1, 2, 3);
  const sent = link.sendBatch(batch);
  const mortal = await RawTrainer.greeted(link.address);
  await mortal.say({ type: "take" });
  assert.equal((await mortal.await("batch")).batch, 1);
  mortal[Symbol.dispose]();
  await until(() => link.trainers.length === 0);
  using next = await RawTrainer.greeted(link.address);
  const taken = await take(next);
  assert.equal(taken.number, 1);
  assert.deepEqual(taken.bytes, bytesOf(batch));
  await sent;
});

Deno.test("a batch that nobody asks for can be cancelled, and the next one is sent", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const stop = new AbortController();
  const sent = link.sendBatch(batchOf(1), { signal: stop.signal });
  sent.catch(() => {});
  stop.abort(new Error("no more"));
  await assert.rejects(sent, { message: /no more/ });
  const second = link.sendBatch(batchOf(2));
  assert.deepEqual((await take(trainer)).bytes, bytesOf(batchOf(2)));
  await second;
});

Deno.test("a batch that is cancelled on its way ends the connection: half of one cannot be taken back", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const stop = new AbortController();
  const sent = link.sendBatch(batchOf(1), { signal: stop.signal });
  sent.catch(() => {});
  await trainer.say({ type: "take" });
  await trainer.await("batch");
  stop.abort(new Error("enough"));
  await assert.rejects(sent, { message: /enough/ });
  await until(() => link.trainers.length === 0);
});

Deno.test("a link that is closed tells who wants to send", async () => {
  const link = await TrainerLink.listen(AT);
  const sent = link.sendBatch(batchOf(1));
  sent.catch(() => {});
  await turns(10);
  await link.close();
  await assert.rejects(sent, /was closed/);
  await assert.rejects(link.sendBatch(batchOf(2)), { code: "state", message: /was closed/ });
});

Deno.test("a batch that is larger than maxBatchBytes is not sent", async () => {
  await using link = await TrainerLink.listen(AT, { maxBatchBytes: 100 });
  const sent = link.sendBatch(batchOf(1, 2));
  await assert.rejects(sent, { code: "limit", limit: "maxBatchBytes", max: 100 });
});
