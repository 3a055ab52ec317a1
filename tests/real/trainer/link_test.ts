/** Trainers in Python against a link, with the embedded server as the fleet. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { LLMCollector } from "../../../src/collector/mod.ts";
import { rolloutFile } from "../../../src/collector/export/safetensors.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { TrainerLink } from "../../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { freePort } from "../../_support/free_port.ts";
import { LinkTrainer, startPlainTrainer } from "../../_support/link_trainer.ts";
import { modelPath, pythonOf } from "../../_support/real.ts";
import { countingEnvironments, sampleOf } from "../../unit/collector/_fakes.ts";
import { greedy } from "../../unit/embedded/_support.ts";

/** A server with `tiny`, a sender to it and a link. */
async function fleet(key?: string) {
  await using stack = new AsyncDisposableStack();
  const folder = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const server = stack.use(await EmbeddedServer.start({ model: modelPath("tiny") }));
  const scheme = new SGLangWeightSyncScheme({ serverUrl: server.url });
  const sender = stack.use(scheme.createSender());
  await sender.initAllWorkersGroup();
  const address = `unix:${folder}/trainer.sock`;
  const link = stack.use(await TrainerLink.listen(address, key === undefined ? {} : { key }));
  const owned = stack.move();
  return { server, sender, link, address, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function expected(): Promise<number[]> {
  await using server = await EmbeddedServer.start({ model: modelPath("tiny1") });
  return await greedy(server);
}

for (const way of ["shm", "socket"] as const) {
  Deno.test(`torch pushes by ${way}, and the server generates as its checkpoint does`, async () => {
    await using at = await fleet("a key");
    await using trainer = await LinkTrainer.start(at.address, { key: "a key", ways: [way] });
    await trainer.ask("load", { folder: modelPath("tiny1") });
    const [outcome, report] = await Promise.all([
      trainer.ask("push", { version: "step-1" }),
      at.link.syncNext(at.sender),
    ]);
    assert.deepEqual([outcome.version, outcome.way, outcome.why], ["step-1", way, ""]);
    assert.equal(report.version, "step-1");
    assert.deepEqual(await greedy(at.server), await expected());
    await trainer.ask("bye", {});
  });

  Deno.test(`a trainer in plain Python pushes by ${way} and takes batches`, async () => {
    await using at = await fleet("a key");
    const args = ["--batches", "2"];
    const child = startPlainTrainer(at.link.address, way, { key: "a key", args });
    const batches = [await collected(1), await collected(2)];
    for (const batch of batches) await at.link.sendBatch(batch);
    await at.link.syncNext(at.sender);
    const { code, stdout } = await child.output();
    assert.equal(code, 0);
    const lines = new TextDecoder().decode(stdout).trim().split("\n");
    for (const [i, batch] of batches.entries()) {
      const hash = createHash("sha256");
      for (const piece of rolloutFile(batch).pieces()) hash.update(piece);
      assert.equal(lines[i], hash.digest("hex"));
    }
    assert.equal(JSON.parse(lines[2]!).type, "done");
    assert.deepEqual(await greedy(at.server), await expected());
  });
}

Deno.test("rows and weights go over one link, and a batch that was not taken comes again", async () => {
  await using at = await fleet();
  const batch = await collected(3);
  const rows = batch.rows.map((row) => [row.dialog, row.turn, [...row.responseIds], row.reward]);
  {
    await using trainer = await LinkTrainer.start(at.address);
    const [got] = await Promise.all([
      trainer.ask("batches", { count: 1 }),
      at.link.sendBatch(batch),
    ]);
    assert.deepEqual(got, [rows]);
    await trainer.kill();
  }
  const sending = at.link.sendBatch(batch);
  await using trainer = await LinkTrainer.start(at.address);
  assert.deepEqual(await trainer.ask("batches", { count: 1 }), [rows]);
  await sending;
  await trainer.ask("load", { folder: modelPath("tiny1") });
  const [outcome] = await Promise.all([trainer.ask("push", {}), at.link.syncNext(at.sender)]);
  assert.equal(outcome.version, "1");
});

async function collected(dialogs: number) {
  await using collector = new LLMCollector(countingEnvironments(dialogs, 2), {
    policy: {
      call: ({ dialog, turn }: { dialog: number; turn: number }) => {
        const ids = [dialog, turn, 7];
        return Promise.resolve(sampleOf(ids, {
          promptIds: Int32Array.of(1, 2),
          logProbs: Float32Array.from(ids, () => -0.5),
        }));
      },
    },
    dialogTurnsPerBatch: dialogs * 2,
  });
  return (await collector.rollout())!;
}

Deno.test("another key is refused by name, on both sides", async () => {
  await using at = await fleet("right");
  await using trainer = await LinkTrainer.start(at.address, { key: "wrong" });
  await trainer.ask("load", { folder: modelPath("tiny1") });
  const outcome = await trainer.ask("push", {});
  assert.deepEqual([outcome.error, outcome.code], ["LinkRefused", "key"]);
  assert.match(outcome.message!, /give both sides the same/);
  assert.deepEqual(at.link.trainers, []);
});

Deno.test("weights that do not fit fail the push by name; the next one works", async () => {
  await using at = await fleet();
  await using trainer = await LinkTrainer.start(at.address);
  await trainer.ask("load", { folder: modelPath("tiny1") });
  const [outcome] = await Promise.all([
    trainer.ask("push", { names: ["model.norm.weight"] }),
    at.link.syncNext(at.sender).catch(() => {}),
  ]);
  assert.deepEqual([outcome.error, outcome.code], ["PushFailed", "validation"]);
  assert.match(outcome.message!, /do not fit/);
  const [next] = await Promise.all([trainer.ask("push", {}), at.link.syncNext(at.sender)]);
  assert.equal(next.version, "1");
});

for (const kind of ["fsdp", "tp"] as const) {
  Deno.test(`two CPU ranks push shards of ${kind} tensor by tensor, with one outcome`, async () => {
    await using at = await fleet();
    const script = new URL("../../_support/fsdp_trainer.py", import.meta.url).pathname;
    const port = freePort();
    const ranks = [0, 1].map((rank) =>
      new Deno.Command(pythonOf(), {
        args: ["-B", script, at.address, modelPath("tiny1"), `${rank}`, `${port}`, kind],
        env: {
          PYTHONPATH: new URL("../../../python", import.meta.url).pathname,
          CUDA_VISIBLE_DEVICES: "",
          HF_HUB_OFFLINE: "1",
          OMP_NUM_THREADS: "1",
        },
        stdout: "piped",
        stderr: "piped",
      }).output()
    );
    const outputs = Promise.all(ranks);
    const report = await at.link.syncNext(at.sender);
    assert.equal(report.version, "sharded");
    assert.deepEqual(await greedy(at.server), await expected());
    await assert.rejects(at.link.syncNext(at.sender), { code: "validation" });
    for (const [rank, { code, stdout, stderr }] of (await outputs).entries()) {
      assert.equal(code, 0, new TextDecoder().decode(stderr));
      const lines = new TextDecoder().decode(stdout).trim().split("\n").map((line) =>
        JSON.parse(line)
      );
      assert.deepEqual(lines[0], { version: "sharded", connected: rank === 0 });
      assert.deepEqual([lines[1].error, lines[1].code], ["PushFailed", "validation"]);
    }
  });
}
