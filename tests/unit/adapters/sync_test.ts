/** Adapters as policies: from a trainer to the rows, on embedded servers. */
import assert from "node:assert/strict";
import { setImmediate } from "node:timers/promises";
import { LoraSyncScheme } from "../../../src/adapters/mod.ts";
import { EmbeddedServer, type EmulatedVersion } from "../../../src/embedded/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import {
  AdapterSyncError,
  StateError,
  UnsupportedError,
  ValidationError,
} from "../../../src/errors.ts";
import { testAdapter, testLora, writePeftFolder } from "../../_support/adapters.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

const greedy = { temperature: 0, maxNewTokens: 12, ignoreEos: true } as const;
const prompt = "Hello world";
const versions: readonly EmulatedVersion[] = ["0.5.16", "0.5.23"];

async function startServers(count: number, version?: EmulatedVersion) {
  const model = await tinyCheckpoint();
  return await Promise.all(
    Array.from({ length: count }, () => EmbeddedServer.start({ model, version, lora: testLora })),
  );
}

/** A fleet of embedded servers that take adapters, and an engine. */
async function fleet(count: number, version?: EmulatedVersion) {
  const stack = new AsyncDisposableStack();
  const servers = await startServers(count, version);
  for (const server of servers) stack.use(server);
  const engine = stack.use(await AsyncSGLang.connect(servers.map(({ url }) => url)));
  const sender = stack.use(new LoraSyncScheme({ engine }).createSender());
  return {
    servers,
    engine,
    sender,
    model: await tinyCheckpoint(),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

for (const version of versions) {
  Deno.test(`an adapter reaches every server and its rows carry its name (${version})`, async () => {
    await using set = await fleet(2, version);
    const { engine, sender, model } = set;
    const base = await engine.generate(prompt, greedy);
    const first = await sender.updateAdapter(await testAdapter(model, { seed: 1 }));
    assert.equal(first.name, "policy@1");
    assert.equal(first.servers.length, 2);
    const samples = await engine.generate([prompt, prompt, prompt, prompt], {
      ...greedy,
      lora: "newest",
    });
    for (const sample of samples) {
      assert.equal(sample.weightVersion, "policy@1");
      assert.deepEqual(sample.weightVersions, [{ version: "policy@1", start: 0, end: 12 }]);
      assert.deepEqual(sample.ids, samples[0]!.ids);
    }
    assert.notDeepEqual(samples[0]!.ids, base.ids);
    assert.deepEqual((await engine.generate(prompt, greedy)).ids, base.ids);

    const second = await sender.updateAdapter(await testAdapter(model, { seed: 2 }));
    assert.equal(second.name, "policy@2");
    const newer = await engine.generate(prompt, { ...greedy, lora: "policy" });
    assert.equal(newer.weightVersion, "policy@2");
    assert.notDeepEqual(newer.ids, samples[0]!.ids);
    const older = await engine.generate(prompt, { ...greedy, lora: "policy@1" });
    assert.deepEqual(older.ids, samples[0]!.ids);
  });
}

Deno.test("a folder of PEFT's gives the same policy as its tensors, by path and by value", async () => {
  await using folder = await temporaryFolder();
  await using set = await fleet(1);
  const { engine, model } = set;
  const adapter = await testAdapter(model, { seed: 3 });
  await writePeftFolder(folder.path, adapter);
  const ids: number[][] = [];
  for (const via of ["tensors", "path"] as const) {
    await using sender = new LoraSyncScheme({ engine, via }).createSender();
    const report = await sender.updateAdapter(folder.path, { name: via });
    assert.equal(report.via, via);
    ids.push([...(await engine.generate(prompt, { ...greedy, lora: via })).ids]);
  }
  await set.sender.updateAdapter(adapter, { name: "memory" });
  ids.push([...(await engine.generate(prompt, { ...greedy, lora: "memory" })).ids]);
  assert.deepEqual(ids[0], ids[1]);
  assert.deepEqual(ids[0], ids[2]);
});

Deno.test("only the newest versions stay, and one that is in use stays until its call ends", async () => {
  await using set = await fleet(1);
  const { engine, sender, model, servers } = set;
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }));
  // It hangs in the middle until the others have come.
  servers[0]!.setFaults({ stallAfterTokens: 5 });
  const long = engine.generate(prompt, { ...greedy, maxNewTokens: 60, lora: "policy@1" });
  while (servers[0]!.faults.stalled !== true) await setImmediate();
  for (const seed of [2, 3, 4]) await sender.updateAdapter(await testAdapter(model, { seed }));
  assert.deepEqual(engine.adapters.ready, ["policy@3", "policy@4"]);
  await engine.adapters.idle();
  const there = await engine.workers[0]!.client.loadedLoras();
  assert.deepEqual(there.toSorted(), ["policy@1", "policy@3", "policy@4"]);
  servers[0]!.setFaults({ stalled: false });
  const sample = await long;
  assert.equal(sample.weightVersion, "policy@1");
  assert.equal(sample.finishReason.type, "length");
  await engine.adapters.idle();
  const loaded = await engine.workers[0]!.client.loadedLoras();
  assert.deepEqual(loaded.toSorted(), ["policy@3", "policy@4"]);
  await assert.rejects(
    engine.generate(prompt, { ...greedy, lora: "policy@1" }),
    (error) => error instanceof StateError && /there are policy@3, policy@4/.test(error.message),
  );
});

Deno.test("several policies live side by side, and newest asks which", async () => {
  await using set = await fleet(2);
  const { engine, sender, model } = set;
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }), { name: "left" });
  await sender.updateAdapter(await testAdapter(model, { seed: 2 }), { name: "right" });
  const [left, right] = await Promise.all([
    engine.generate(prompt, { ...greedy, lora: "left" }),
    engine.generate(prompt, { ...greedy, lora: "right" }),
  ]);
  assert.equal(left.weightVersion, "left@1");
  assert.equal(right.weightVersion, "right@1");
  assert.notDeepEqual(left.ids, right.ids);
  await assert.rejects(
    engine.generate(prompt, { ...greedy, lora: "newest" }),
    (error) => error instanceof ValidationError && /left, right/.test(error.message),
  );
});

Deno.test("a name is never given twice", async () => {
  await using set = await fleet(1);
  const { engine, sender, model } = set;
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }), { name: "policy@7" });
  for (const name of ["policy@7", "policy@3"]) {
    await assert.rejects(
      sender.updateAdapter(await testAdapter(model, { seed: 2 }), { name }),
      StateError,
    );
  }
  // Another process, which knows only what the servers tell.
  await using other = new LoraSyncScheme({ serverUrl: engine.workers[0]!.url }).createSender();
  const report = await other.updateAdapter(await testAdapter(model, { seed: 2 }));
  assert.equal(report.name, "policy@8");
});

Deno.test("a server that joins has the adapters before it serves", async () => {
  await using set = await fleet(1);
  const { engine, sender, model } = set;
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }));
  const [server] = await startServers(1);
  await using _server = server!;
  await engine.addWorker(server!.url);
  const { client, state } = engine.workers.find(({ url }) => url === server!.url)!;
  assert.equal(state, "serving");
  assert.deepEqual(await client.loadedLoras(), ["policy@1"]);
  const samples = await engine.generate(Array.from({ length: 8 }, () => prompt), {
    ...greedy,
    lora: "policy",
  });
  for (const sample of samples) assert.deepEqual(sample.ids, samples[0]!.ids);
});

Deno.test("a server that was started anew gets the adapters with the first request that misses them", async () => {
  const model = await tinyCheckpoint();
  const options = { model, lora: testLora };
  const first = await EmbeddedServer.start(options);
  const port = Number(new URL(first.url).port);
  await using engine = await AsyncSGLang.connect(first.url);
  await using sender = new LoraSyncScheme({ engine }).createSender();
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }));
  const before = await engine.generate(prompt, { ...greedy, lora: "policy" });
  await first.close();
  await using _second = await EmbeddedServer.start({ ...options, port });
  const after = await engine.generate(prompt, { ...greedy, lora: "policy" });
  assert.deepEqual(after.ids, before.ids);
  assert.equal(after.weightVersion, "policy@1");
  assert.equal(engine.workers[0]!.state, "serving");
});

Deno.test("a server that refuses leaves no server with the adapter", async () => {
  await using set = await fleet(2);
  const { engine, sender, model } = set;
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }), { name: "a" });
  // Somebody loads the next name behind our back.
  await using other = new LoraSyncScheme({ serverUrl: engine.workers[1]!.url }).createSender();
  await other.updateAdapter(await testAdapter(model, { seed: 5 }), { name: "a" });
  await assert.rejects(
    sender.updateAdapter(await testAdapter(model, { seed: 2 }), { name: "a" }),
    (error) => error instanceof AdapterSyncError && error.failures.length === 1,
  );
  await engine.adapters.idle();
  assert.deepEqual(await engine.workers[0]!.client.loadedLoras(), ["a@1"]);
  assert.equal((await engine.generate(prompt, { ...greedy, lora: "a" })).weightVersion, "a@1");
});

Deno.test("what servers would end by, or compute wrongly, is refused before it is sent", async (t) => {
  await using set = await fleet(1);
  const { engine, sender, model } = set;
  const adapter = await testAdapter(model, { seed: 1 });
  const key = "base_model.model.model.layers.0.self_attn.o_proj.lora_A.weight";
  const { [key]: _gone, ...without } = adapter.tensors;
  const wrong: Record<string, [Parameters<typeof sender.updateAdapter>[0], RegExp]> = {
    "a rank above the server's": [
      await testAdapter(model, { seed: 1, rank: 16 }),
      /rank 16.*at most 8/,
    ],
    "a rank that the matrices do not have": [
      { ...adapter, config: { ...adapter.config, r: 8 } },
      /r = 8/,
    ],
    "half a pair": [{ ...adapter, tensors: without }, /only the matrix B/],
    "other sizes": [
      {
        ...adapter,
        tensors: { ...adapter.tensors, [key]: { data: new Float32Array(8), shape: [4, 2] } },
      },
      /2 inputs/,
    ],
    "a layer that is not there": [
      {
        ...adapter,
        tensors: Object.fromEntries(
          Object.entries(adapter.tensors).map(([name, tensor]) => [
            name.replace("layers.0", "layers.99"),
            tensor,
          ]),
        ),
      },
      /does not have/,
    ],
    "DoRA": [await testAdapter(model, { seed: 1, config: { use_dora: true } }), /use_dora/],
    "ranks by pattern": [
      await testAdapter(model, { seed: 1, config: { rank_pattern: { q_proj: 2 } } }),
      /rank_pattern/,
    ],
    "whole modules": [
      await testAdapter(model, { seed: 1, config: { modules_to_save: ["lm_head"] } }),
      /modules_to_save/,
    ],
    "PiSSA": [
      await testAdapter(model, { seed: 1, config: { init_lora_weights: "pissa_niter_4" } }),
      /pissa/,
    ],
    "NaN": [
      {
        ...adapter,
        tensors: {
          ...adapter.tensors,
          [key]: {
            ...adapter.tensors[key]!,
            data: adapter.tensors[key]!.data.map((x, i) => i === 3 ? NaN : x),
          },
        },
      },
      /NaN/,
    ],
  };
  for (const [what, [input, message]] of Object.entries(wrong)) {
    await t.step(what, async () => {
      await assert.rejects(
        sender.updateAdapter(input),
        (error) =>
          (error instanceof ValidationError || error instanceof UnsupportedError) &&
          message.test(error.message),
      );
    });
  }
  for (const name of ["", "newest", "a b", "a:b", "@1", "x".repeat(200)]) {
    await t.step(`the name ${JSON.stringify(name).slice(0, 20)}`, async () => {
      await assert.rejects(sender.updateAdapter(adapter, { name }), ValidationError);
    });
  }
  assert.deepEqual(await engine.workers[0]!.client.loadedLoras(), []);
});

Deno.test("targets that a server was not started for are refused, and servers without adapters", async () => {
  const model = await tinyCheckpoint();
  await using few = await EmbeddedServer.start({
    model,
    lora: { maxRank: 8, targetModules: ["q_proj", "v_proj"] },
  });
  await using none = await EmbeddedServer.start({ model });
  await using a = new LoraSyncScheme({ serverUrl: few.url }).createSender();
  await assert.rejects(
    async () => await a.updateAdapter(await testAdapter(model, { seed: 1 })),
    (error) => error instanceof ValidationError && /down_proj/.test(error.message),
  );
  await using b = new LoraSyncScheme({ serverUrl: none.url }).createSender();
  await assert.rejects(
    async () => await b.updateAdapter(await testAdapter(model, { seed: 1 })),
    (error) => error instanceof UnsupportedError && /--enable-lora/.test(error.message),
  );
});

Deno.test("groups that a server asks for whole are filled with zeros", async () => {
  await using set = await fleet(1);
  const { engine, sender, model } = set;
  // Each of these alone would be refused by SGLang, or would end it.
  for (const module of ["q_proj", "k_proj", "v_proj", "up_proj", "gate_proj"] as const) {
    const part = await testAdapter(model, { seed: 1, modules: [module] });
    await sender.updateAdapter(part, { name: module });
    const sample = await engine.generate(prompt, { ...greedy, lora: module });
    assert.equal(sample.weightVersion, `${module}@1`);
  }
});
