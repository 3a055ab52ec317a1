/** A torch trainer that is rank 0 itself: gloo into embedded servers, which are as the real ones. */
import assert from "node:assert/strict";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { trainerBroadcasts, TrainerLink } from "../../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme, type WeightSyncOptions } from "../../../src/weights/mod.ts";
import { LinkTrainer } from "../../_support/link_trainer.ts";
import { modelPath } from "../../_support/real.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { greedy } from "../../unit/embedded/_support.ts";

async function linkAt() {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const link = stack.use(await TrainerLink.listen(`unix:${folder.path}/trainer.sock`));
  const owned = stack.move();
  return { link, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

async function senderTo(
  servers: readonly EmbeddedServer[],
  options: Pick<WeightSyncOptions, "bucketBytes" | "flattened" | "deadlines" | "finite"> = {},
) {
  const workers = servers.map(({ url }) => ({ url }));
  const scheme = new SGLangWeightSyncScheme({
    workers,
    transport: trainerBroadcasts(),
    ...options,
  });
  const sender = scheme.createSender();
  await sender.initAllWorkersGroup();
  return sender;
}

async function torch(link: TrainerLink, ways = ["broadcast"]) {
  const trainer = await LinkTrainer.start(link.address, { ways });
  await trainer.ask("load", { folder: modelPath("tiny1") });
  return trainer;
}

async function expected(): Promise<number[]> {
  await using server = await EmbeddedServer.start({ model: modelPath("tiny1") });
  return await greedy(server);
}

Deno.test("torch as rank 0 broadcasts to two servers; one that dies keeps nothing from the other", async () => {
  await using one = await EmbeddedServer.start({ model: modelPath("tiny"), version: "0.5.16" });
  await using two = await EmbeddedServer.start({ model: modelPath("tiny"), version: "0.5.23" });
  await using at = await linkAt();
  const wanted = await expected();
  await using trainer = await torch(at.link);
  for (const flattened of [true, false]) {
    await using sender = await senderTo([one, two], { bucketBytes: 100_000, flattened });
    for (let i = 0; i < 3; i++) {
      const version = `step-${flattened}-${i}`;
      const [outcome, report] = await Promise.all([
        trainer.ask("push", { version }),
        at.link.syncNext(sender),
      ]);
      assert.deepEqual([outcome.version, outcome.way], [version, "broadcast"], outcome.message);
      assert.equal(report.transport, "trainer");
      assert.ok(report.buckets > 5);
      // Nobody here has seen the values.
      assert.equal(report.finite, false);
      assert.deepEqual(await greedy(one), wanted);
      assert.deepEqual(await greedy(two), wanted);
    }
  }
  {
    await using strict = await senderTo([one], { finite: true });
    const [outcome] = await Promise.all([
      trainer.ask("push", {}),
      assert.rejects(at.link.syncNext(strict), { code: "unsupported" }),
    ]);
    assert.match(outcome.message!, /sends its weights itself/);
  }
  await using sender = await senderTo([one, two], {
    bucketBytes: 100_000,
    deadlines: { updateMs: 5000 },
  });
  const pushed = trainer.ask("push", {});
  let isClosing: Promise<void> | undefined;
  const failed = assert.rejects(at.link.syncNext(sender, {
    onProgress({ phase }) {
      if (phase === "update") isClosing ??= two.close();
    },
  }));
  const outcome = await pushed;
  assert.deepEqual([outcome.error, outcome.server], ["PushFailed", two.url], outcome.message);
  await failed;
  await isClosing;
  assert.deepEqual(await greedy(one), wanted);
  await trainer.ask("bye", {});
});

Deno.test("a trainer that is rank 0 and is killed is named, and the next push works", async () => {
  await using server = await EmbeddedServer.start({ model: modelPath("tiny") });
  await using at = await linkAt();
  await using sender = await senderTo([server]);
  const wanted = await expected();
  await using next = await torch(at.link);
  for (const die of ["join", "broadcast"]) {
    await using trainer = await torch(at.link);
    const [error] = await Promise.all([
      at.link.syncNext(sender).catch((error: Error) => error),
      assert.rejects(trainer.ask("push", { die }), /the trainer has ended/),
    ]);
    assert.match((error as Error).message, /trainer torch ended in push 1 /, die);
    const [outcome] = await Promise.all([next.ask("push", {}), at.link.syncNext(sender)]);
    assert.ok(outcome.version, `${die}: ${outcome.message}`);
    assert.deepEqual(await greedy(server), wanted);
  }
  await next.ask("bye", {});
});
