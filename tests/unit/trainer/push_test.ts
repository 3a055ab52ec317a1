/** Weights of a trainer in another process, to servers. */
import assert from "node:assert/strict";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { until } from "../../_support/clock.ts";
import {
  randomTensors,
  type RawTensor,
  RawTrainer,
  readWhole,
} from "../../_support/raw_trainer.ts";
import { greedy } from "../embedded/_support.ts";

const AT = "tcp:127.0.0.1:0";

async function checkpoints() {
  const folder = await Deno.makeTempDir();
  const [before, after] = [`${folder}/before`, `${folder}/after`];
  await makeTinyCheckpoint(before, { seed: 0 });
  await makeTinyCheckpoint(after, { seed: 1 });
  return {
    before,
    after,
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

async function tensorsOf(folder: string): Promise<RawTensor[]> {
  await using checkpoint = await openCheckpoint(folder);
  return await Promise.all(
    [...checkpoint.tensors.values()].map(async ({ name, dtype, shape }) => ({
      name,
      dtype,
      shape,
      data: await checkpoint.read(name),
    })),
  );
}

Deno.test("a push reaches the servers, and the trainer hears under which version", async () => {
  await using folders = await checkpoints();
  await using server = await EmbeddedServer.start({ model: folders.before });
  await using wanted = await EmbeddedServer.start({ model: folders.after });
  await using link = await TrainerLink.listen(AT);
  const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url, verify: "sample" });
  await using sender = scheme.createSender();
  await sender.initAllWorkersGroup();
  using trainer = await RawTrainer.greeted(link.address);
  const tensors = await tensorsOf(folders.after);
  for (const version of ["step-1", undefined]) {
    const options = { pieceBytes: 1000, ...(version === undefined ? {} : { version }) };
    const [report, told] = await Promise.all([
      link.syncNext(sender),
      trainer.push(version === undefined ? 2 : 1, tensors, options),
    ]);
    assert.equal(told.type, "done", String(told.message));
    assert.equal(told.version, version ?? "1");
    assert.equal(report.version, told.version);
    assert.equal(report.sizeBytes, told.sizeBytes);
    assert.deepEqual(await greedy(server), await greedy(wanted));
  }
});

Deno.test("weights that do not fit are told to both sides in the same words; the next push works", async () => {
  await using folders = await checkpoints();
  await using server = await EmbeddedServer.start({ model: folders.before });
  await using link = await TrainerLink.listen(AT);
  await using sender = new SGLangWeightSyncScheme({ serverUrl: server.url }).createSender();
  await sender.initAllWorkersGroup();
  using trainer = await RawTrainer.greeted(link.address);
  const tensors = await tensorsOf(folders.after);
  const [synced, told] = await Promise.all([
    link.syncNext(sender).catch((error) => error),
    trainer.push(1, tensors.slice(1)),
  ]);
  assert.deepEqual([told.type, told.code], ["failed", "validation"]);
  assert.equal(told.message, synced.message);
  const again = await Promise.all([link.syncNext(sender), trainer.push(2, tensors)]);
  assert.equal(again[1].type, "done");
});

Deno.test("tensors come in the order of asking, empty ones too, and can be read twice", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const tensors = randomTensors([3_000_000, 0, 1, 70_000, 65_536, 17]);
  const told = trainer.push(1, tensors, { pieceBytes: 99_991 });
  const push = await link.nextPush();
  assert.deepEqual(push.tensors.map(({ name }) => name), tensors.map(({ name }) => name));
  for (let round = 0; round < 2; round++) {
    const read = await readWhole(push.source);
    for (const { name, data } of tensors) assert.deepEqual(read.get(name), data);
  }
  await push.done({ version: "7" });
  assert.equal((await told).version, "7");
  assert.ok(push.isSettled);
  await push.failed(new Error("too late"));
});

Deno.test("bytes of a tensor that nobody wants any more are dropped, the push goes on", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const tensors = randomTensors([500_000, 400_000]);
  await trainer.offer(1, tensors);
  const push = await link.nextPush();
  await using open = await push.source.open();
  const stop = new AbortController();
  const first = new Uint8Array(500_000);
  const read = open.read(0, first, { signal: stop.signal });
  read.catch(() => {});
  await trainer.await("want");
  await trainer.bytes(1, tensors[0]!.data.subarray(0, 100_000));
  await until(() => first[99_999] === tensors[0]!.data[99_999]);
  stop.abort(new Error("enough"));
  await assert.rejects(read, { message: "enough" });
  const kept = first.slice();
  const second = new Uint8Array(400_000);
  const next = open.read(1, second, { signal: new AbortController().signal });
  await trainer.await("want");
  await trainer.bytes(1, tensors[0]!.data.subarray(100_000));
  await trainer.bytes(1, tensors[1]!.data);
  await next;
  assert.deepEqual(first, kept, "memory that was given back is not written to");
  assert.deepEqual(second, tensors[1]!.data);
  await push.failed(new Error("done with it"));
  assert.equal((await trainer.await("failed")).code, "other");
  // What is still on its way belongs to a push that has ended.
  await trainer.bytes(1, new Uint8Array(1000));
  const told = trainer.push(2, tensors);
  await (await link.nextPush()).done({ version: "2" });
  assert.equal((await told).type, "done");
});

for (
  const [phase, die] of [
    ["before it is taken up", undefined],
    ["before the first byte", 0],
    ["within the first tensor", 1000],
    ["after the last byte but one", 899_999],
  ] as const
) {
  Deno.test(`a trainer that is gone ${phase} fails what reads from it, by name`, async () => {
    await using link = await TrainerLink.listen(AT);
    const trainer = await RawTrainer.greeted(link.address, { name: "mortal" });
    const tensors = randomTensors([500_000, 400_000]);
    await trainer.offer(3, tensors, "step-9");
    if (die === undefined) {
      await until(() => link.trainers.length === 1);
      trainer[Symbol.dispose]();
      await until(() => link.trainers.length === 0);
    } else {
      const push = await link.nextPush();
      const read = readWhole(push.source);
      read.catch(() => {});
      await trainer.await("want");
      if (die > 0) await trainer.bytes(3, new Uint8Array(die).subarray(0, 499_000));
      if (die > 499_000) await trainer.bytes(3, new Uint8Array(die - 499_000));
      trainer[Symbol.dispose]();
      await assert.rejects(read, {
        code: "unreachable",
        message: /trainer mortal ended in push 3 \(version step-9, source, \d of 2 tensors taken\)/,
      });
      assert.ok(push.gone.aborted);
      await push.failed(new Error("nobody hears it"));
    }
    using next = await RawTrainer.greeted(link.address);
    const told = next.push(1, tensors);
    const push = await link.nextPush();
    assert.deepEqual((await readWhole(push.source)).get("t1"), tensors[1]!.data);
    await push.done({ version: "1" });
    assert.equal((await told).type, "done");
  });
}

Deno.test("a withdrawn push says why", async () => {
  await using link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  await trainer.offer(1, randomTensors([10]));
  const push = await link.nextPush();
  const read = readWhole(push.source);
  read.catch(() => {});
  await trainer.await("want");
  await trainer.say({ type: "withdraw", push: 1, message: "out of memory" });
  await assert.rejects(read, { code: "state", message: /raw withdrew its push: out of memory/ });
  await push.failed(await read.catch((error) => error));
  assert.equal((await trainer.await("failed")).code, "state");
});

Deno.test("closing the link says goodbye and ends what waits", async () => {
  const link = await TrainerLink.listen(AT);
  using trainer = await RawTrainer.greeted(link.address);
  const waiting = link.nextPush();
  waiting.catch(() => {});
  const all = Array.fromAsync(link.pushes());
  await until(() => link.trainers.length === 1);
  await link.close();
  await link.close();
  await assert.rejects(waiting, { code: "state", message: /was closed/ });
  assert.deepEqual(await all, []);
  assert.equal((await trainer.hear()).type, "bye");
  await assert.rejects(link.nextPush(), { code: "state" });
});

Deno.test("waiting for a push can be cancelled", async () => {
  await using link = await TrainerLink.listen(AT);
  const stop = new AbortController();
  const waiting = link.nextPush({ signal: stop.signal });
  waiting.catch(() => {});
  stop.abort(new Error("no more"));
  await assert.rejects(waiting, { code: "aborted", message: /wait for a trainer/ });
});
