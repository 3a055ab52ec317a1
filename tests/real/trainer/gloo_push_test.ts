/** A torch trainer's weights by the link into a real server by gloo: bit-exact, again and again. */
import assert from "node:assert/strict";
import { SGLangClient } from "../../../src/client/mod.ts";
import { trainerBroadcasts, TrainerLink } from "../../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { LinkTrainer } from "../../_support/link_trainer.ts";
import { modelPath, startRealServer } from "../../_support/real.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";

Deno.test("torch pushes by shared memory, by socket and as rank 0 itself into a real server by gloo, bit-exact", async () => {
  await using folder = await temporaryFolder();
  await using server = await startRealServer({ version: "0.5.23" });
  await using client = new SGLangClient({ url: server.url });
  const loaded = async (model: string) => {
    await client.updateWeightsFromDisk(model);
    return JSON.stringify(await client.weightsChecker("checksum"));
  };
  const [wanted, others] = [await loaded(modelPath("tiny1")), await loaded(modelPath("tiny"))];
  assert.notEqual(wanted, others);
  await using link = await TrainerLink.listen(`unix:${folder.path}/trainer.sock`);
  await using sender = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: "gloo",
    verify: "checksum",
  }).createSender();
  await sender.initAllWorkersGroup();
  for (const way of ["shm", "socket"]) {
    await using trainer = await LinkTrainer.start(link.address, { ways: [way] });
    await trainer.ask("load", { folder: modelPath("tiny1") });
    for (let i = 0; i < 2; i++) {
      await loaded(modelPath("tiny"));
      const [outcome] = await Promise.all([trainer.ask("push", {}), link.syncNext(sender)]);
      assert.equal(outcome.way, way, outcome.message);
      assert.equal(JSON.stringify(await client.weightsChecker("checksum")), wanted);
    }
    await trainer.ask("bye", {});
  }
  // The other way round: the trainer is rank 0 of the server's group.
  await using broadcasting = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: trainerBroadcasts(),
    verify: "checksum",
  }).createSender();
  await broadcasting.initAllWorkersGroup();
  await using trainer = await LinkTrainer.start(link.address, { ways: ["broadcast"] });
  await trainer.ask("load", { folder: modelPath("tiny1") });
  for (let i = 0; i < 2; i++) {
    await loaded(modelPath("tiny"));
    const [outcome] = await Promise.all([trainer.ask("push", {}), link.syncNext(broadcasting)]);
    assert.equal(outcome.way, "broadcast", outcome.message);
    assert.equal(JSON.stringify(await client.weightsChecker("checksum")), wanted);
  }
  await trainer.ask("bye", {});
  // A part of the tensors, there and back.
  const only = "model.layers.0.*";
  const there = await sender.updateWeights(safetensors(modelPath("tiny")), { only });
  assert.ok(there.part!.names.every((name) => name.startsWith("model.layers.0.")));
  const mixed = JSON.stringify(await client.weightsChecker("checksum"));
  assert.ok(mixed !== wanted && mixed !== others);
  await sender.updateWeights(safetensors(modelPath("tiny1")), { only });
  assert.equal(JSON.stringify(await client.weightsChecker("checksum")), wanted);
});
