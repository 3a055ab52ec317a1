/** A trainer that is rank 0 of the servers' groups itself, here by the gloo of this project. */
import assert from "node:assert/strict";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { GlooGroup } from "../../../src/collective/gloo/mod.ts";
import { EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { trainerBroadcasts, TrainerLink } from "../../../src/trainer/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { type RawTensor, RawTrainer, readWhole, type Told } from "../../_support/raw_trainer.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { greedy } from "../embedded/_support.ts";

const { signal } = new AbortController();

/** A trainer that does what it is asked for. */
class Rank0 {
  readonly groups = new Map<string, GlooGroup>();
  readonly asked: string[] = [];
  /** What it answers instead, by the question. */
  readonly instead: Record<string, object> = {};
  constructor(readonly trainer: RawTrainer, readonly tensors: readonly RawTensor[]) {}

  /** Pushes, and answers until the push is over. */
  async push(push: number): Promise<Told> {
    await this.trainer.offer(push, this.tensors, undefined);
    for (;;) {
      const message = await this.trainer.hear();
      if (message.type === "done" || message.type === "failed") return message;
      if (message.type === "progress") continue;
      this.asked.push(message.type);
      this.#answer(message);
    }
  }

  async #answer(message: Told): Promise<void> {
    const told = this.instead[message.type] ?? await this.#do(message);
    await this.trainer.say({ type: "answer", ask: message.ask, ...told });
  }

  async #do(message: Told): Promise<object> {
    const name = message.group as string;
    const group = this.groups.get(name);
    switch (message.type) {
      case "group": {
        const opened = await GlooGroup.open({
          masterAddress: "127.0.0.1",
          masterPort: 0,
          groupName: name,
          worldSize: message.world as number,
        }, { signal });
        this.groups.set(name, opened);
        return { port: opened.masterPort };
      }
      case "join":
        await group!.connect({ signal });
        return {};
      case "broadcast": {
        const tensors = (message.tensors as number[]).map((index) => this.tensors[index]!);
        const parts = message.flattened
          ? [{ bytes: joined(tensors.map(({ data }) => data)), dtype: "uint8" as const }]
          : tensors.map(({ data, dtype }) => ({ bytes: data, dtype: dtype as "float32" }));
        await group!.broadcast(parts, { signal });
        return {};
      }
      default:
        await group?.close();
        return {};
    }
  }
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
}

async function setUp() {
  await using stack = new AsyncDisposableStack();
  const [old, fresh] = [stack.use(await temporaryFolder()), stack.use(await temporaryFolder())];
  await makeTinyCheckpoint(old.path, { seed: 0 });
  await makeTinyCheckpoint(fresh.path, { seed: 1 });
  const server = stack.use(await EmbeddedServer.start({ model: old.path }));
  const link = stack.use(await TrainerLink.listen("tcp:127.0.0.1:0"));
  const scheme = new SGLangWeightSyncScheme({
    serverUrl: server.url,
    transport: trainerBroadcasts(),
    bucketBytes: 50_000,
  });
  const sender = stack.use(scheme.createSender());
  await sender.initAllWorkersGroup();
  const read = await readWhole(safetensors(fresh.path));
  await using checkpoint = await openCheckpoint(fresh.path);
  const tensors = [...checkpoint.tensors.values()].map(({ name, dtype, shape }) => ({
    name,
    dtype,
    shape,
    data: read.get(name)!,
  }));
  const trainer = stack.use(await RawTrainer.greeted(link.address, { way: "broadcast" }));
  const rank0 = new Rank0(trainer, tensors);
  stack.defer(async () => {
    for (const group of rank0.groups.values()) await group.close();
  });
  const expected = async () => {
    await using other = await EmbeddedServer.start({ model: fresh.path });
    return await greedy(other);
  };
  const owned = stack.move();
  return {
    link,
    sender,
    server,
    rank0,
    expected,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

Deno.test("a trainer that is rank 0 broadcasts every bucket; its group stays for the next push", async () => {
  await using at = await setUp();
  for (const push of [1, 2]) {
    const [told, report] = await Promise.all([
      at.rank0.push(push),
      at.link.syncNext(at.sender),
    ]);
    assert.deepEqual([told.type, told.version], ["done", report.version]);
    assert.ok(report.buckets > 2);
  }
  assert.deepEqual(await greedy(at.server), await at.expected());
  assert.equal(at.rank0.asked.filter((type) => type === "group").length, 1);
  assert.ok(at.sender.checkConnection());
});

Deno.test("what a trainer cannot do fails its push with its own words, and the next one works", async () => {
  await using at = await setUp();
  let push = 0;
  for (const type of ["group", "broadcast"]) {
    at.rank0.instead[type] = { error: `no ${type} today` };
    const [told] = await Promise.all([
      at.rank0.push(++push),
      assert.rejects(at.link.syncNext(at.sender), new RegExp(`no ${type} today`)),
    ]);
    assert.match(String(told.message), new RegExp(`no ${type} today`));
    delete at.rank0.instead[type];
  }
  at.rank0.instead.group = { port: 0 };
  await Promise.all([
    at.rank0.push(++push),
    assert.rejects(at.link.syncNext(at.sender), /listens at no port/),
  ]);
  delete at.rank0.instead.group;
  const [told] = await Promise.all([at.rank0.push(++push), at.link.syncNext(at.sender)]);
  assert.equal(told.type, "done");
  assert.deepEqual(await greedy(at.server), await at.expected());
});

Deno.test("weights of elsewhere cannot be broadcast by a trainer; wrong options are refused", async () => {
  await using at = await setUp();
  const other = { label: "others", open: () => Promise.reject(new Error("unused")) };
  await assert.rejects(
    at.sender.updateWeights({
      ...other,
      open: () =>
        Promise.resolve({
          tensors: at.rank0.tensors as never,
          view: () => undefined,
          read: () => Promise.resolve(),
          [Symbol.asyncDispose]: () => Promise.resolve(),
        }),
    }),
    { code: "validation", message: /ways=\["broadcast"\]/ },
  );
  assert.throws(() => trainerBroadcasts({ backend: "mpi" as "gloo" }), { code: "validation" });
  assert.throws(() => trainerBroadcasts({ backends: "gloo" } as object), { code: "validation" });
});
