/** Adapters, options and servers that cannot work: each is refused with what is wrong. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type AdapterInput, readAdapter } from "../../../src/adapters/adapter.ts";
import { completeGroups, matrixOf, pairMatrices } from "../../../src/adapters/matrices.ts";
import { LoraSyncScheme } from "../../../src/adapters/mod.ts";
import { checkPolicyName } from "../../../src/adapters/names.ts";
import { readPeftConfig } from "../../../src/adapters/peft_config.ts";
import { adapterFactsOf, checkAgainstServer } from "../../../src/adapters/server_facts.ts";
import { AdapterVersions } from "../../../src/adapters/versions.ts";
import type { ServerInfo } from "../../../src/client/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import {
  AbortedError,
  CheckpointError,
  LimitError,
  StateError,
  UnsupportedError,
  ValidationError,
} from "../../../src/errors.ts";
import { testAdapter, testLora, writePeftFolder } from "../../_support/adapters.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

const refused = (Class: new (...args: never[]) => Error, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Class, String(error));
  assert.match(error.message, message);
  return true;
};

Deno.test("a folder that is no adapter is told by what it lacks", async () => {
  await using folder = await temporaryFolder();
  const { path } = folder;
  const read = () => readAdapter(path, { maxBytes: 1e6 });
  await assert.rejects(
    read(),
    refused(CheckpointError, /adapter_config\.json.*A PEFT folder has it/),
  );
  await Deno.mkdir(join(path, "adapter_config.json"));
  await assert.rejects(read(), refused(CheckpointError, /is a folder, where a file is expected/));
  await Deno.remove(join(path, "adapter_config.json"));
  await Deno.writeTextFile(join(path, "adapter_config.json"), '{"r": 1, "lora_alpha": 1}');
  await assert.rejects(read(), refused(CheckpointError, /safe_serialization=True/));
  await Deno.writeTextFile(join(path, "adapter_config.json"), "{".repeat(9));
  await assert.rejects(read(), refused(CheckpointError, /adapter_config\.json/));
  await Deno.writeTextFile(join(path, "adapter_config.json"), " ".repeat(2 ** 20 + 1));
  await assert.rejects(read(), refused(LimitError, /more than adapter_config\.json/));
});

Deno.test("an adapter above maxBytes is not read, from a folder or from memory", async () => {
  await using folder = await temporaryFolder();
  const adapter = await testAdapter(await tinyCheckpoint(), { seed: 1 });
  await writePeftFolder(folder.path, adapter);
  for (const input of [folder.path, new URL(`file://${folder.path}/`), adapter]) {
    await assert.rejects(
      readAdapter(input, { maxBytes: 1000 }),
      refused(LimitError, /maxBytes is 1000/),
    );
    const { matrices } = await readAdapter(input, { maxBytes: 1e6 });
    assert.ok(matrices.size > 0);
  }
  for (const none of [null, undefined, 7, {}, { config: adapter.config, tensors: "w" }]) {
    await assert.rejects(
      readAdapter(none as unknown as AdapterInput, { maxBytes: 1e6 }),
      refused(ValidationError, /a PEFT folder, or \{ config, tensors \}/),
    );
  }
  await assert.rejects(
    readAdapter(folder.path, { maxBytes: 1e6, signal: AbortSignal.abort() }),
    AbortedError,
  );
});

Deno.test("matrices that are no pair, no matrix, or of another type are named", () => {
  const bytes = new Uint8Array();
  const a = { name: "m.q_proj.lora_A.weight", dtype: "float32", shape: [2, 3], bytes } as const;
  const b = { name: "m.q_proj.lora_B.weight", dtype: "float32", shape: [3, 2], bytes } as const;
  assert.equal(pairMatrices([a, b], 2).size, 1);
  const pair = (...tensors: Parameters<typeof pairMatrices>[0]) => () => pairMatrices(tensors, 2);
  assert.throws(pair(), refused(ValidationError, /holds no tensor/));
  assert.throws(
    pair(a, { ...a, name: "base_model.model.m.q_proj.lora_A.default.weight" }),
    refused(ValidationError, /two matrices A of m\.q_proj/),
  );
  assert.throws(pair(a), refused(ValidationError, /only the matrix A of m\.q_proj/));
  assert.throws(pair(b), refused(ValidationError, /only the matrix B of m\.q_proj/));
  assert.throws(pair({ ...a, dtype: "int8" }, b), refused(ValidationError, /is int8/));
  assert.throws(
    pair(a, { ...b, shape: [4, 3, 2] }),
    refused(UnsupportedError, /\[4, 3, 2\]; only matrices/),
  );
  assert.throws(pair(a, { ...b, shape: [2, 3] }), refused(ValidationError, /rank 3.*r = 2/s));
  for (const name of ["m.lora_embedding_A", "m.lora_magnitude_vector", "m.q_proj.bias"]) {
    assert.throws(() => matrixOf(name), refused(UnsupportedError, /is no matrix of a LoRA layer/));
  }
  // SGLang takes k_proj from v_proj alone; else what is missing can be made only by known sizes.
  assert.throws(
    () => completeGroups(pairMatrices([a, b], 2), undefined),
    refused(ValidationError, /"m\.q_proj" and not "m\.k_proj".*Give baseFolder/),
  );
});

Deno.test("a PEFT configuration without rank or alpha, or of another kind, is refused by field", () => {
  const good = { r: 4, lora_alpha: 8 };
  assert.deepEqual(readPeftConfig(good), { rank: 4, alpha: 8, isPlain: false });
  assert.equal(readPeftConfig({ ...good, use_rslora: true }).alpha, 16);
  const read = (config: unknown) => () => readPeftConfig(config as typeof good);
  assert.throws(read(null), refused(ValidationError, /an object with r and lora_alpha/));
  assert.throws(read({ ...good, peft_type: "IA3" }), refused(UnsupportedError, /not "IA3"/));
  for (const r of [0, 1.5, "4", undefined]) {
    assert.throws(read({ ...good, r }), refused(ValidationError, /r must be a whole number/));
  }
  for (const lora_alpha of [NaN, Infinity, "8", null]) {
    assert.throws(read({ ...good, lora_alpha }), refused(ValidationError, /lora_alpha must be/));
  }
  // A long value is told in short.
  const pattern = Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`layer${i}`, 2]));
  assert.throws(read({ ...good, rank_pattern: pattern }), (error) => {
    assert.ok(error instanceof UnsupportedError);
    return error.message.length < 300 && /rank_pattern to .*…/.test(error.message);
  });
});

Deno.test("what a server says of adapters is read, and what it would end by is refused", () => {
  const info = (raw: Record<string, unknown>, dpSize = 1) =>
    ({ raw: { enable_lora: true, ...raw }, tpSize: 2, dpSize }) as unknown as ServerInfo;
  const facts = (raw: Record<string, unknown>, dpSize = 1) =>
    adapterFactsOf("http://a", info(raw, dpSize));
  assert.throws(() => facts({ enable_lora: false }), refused(UnsupportedError, /--enable-lora/));
  assert.throws(() => facts({}, 2), refused(UnsupportedError, /--dp-size 2/));
  assert.deepEqual(facts({}), {
    url: "http://a",
    ranks: 2,
    maxRank: null,
    targets: null,
    maxLoaded: null,
  });
  for (const all of [["all"], ["q_proj", "all-linear"], []]) {
    assert.equal(facts({ lora_target_modules: all }).targets, null);
  }
  const settings = { rank: 4, alpha: 8, isPlain: true };
  const check = (raw: Record<string, unknown>, targets: string[], keep = 2) => () =>
    checkAgainstServer({ settings, targets }, facts(raw), keep);
  // Modules that are computed as one are one target.
  check({ lora_target_modules: ["model.q_proj"], max_lora_rank: 4 }, ["k_proj", "v_proj"])();
  assert.throws(check({ max_lora_rank: 2 }, []), refused(ValidationError, /rank 4.*at most 2/));
  assert.throws(
    check({ lora_target_modules: ["o_proj"] }, ["up_proj"]),
    refused(ValidationError, /changes up_proj.*started for o_proj/),
  );
  check({ max_loaded_loras: 3 }, [])();
  assert.throws(
    check({ max_loaded_loras: 3 }, [], 3),
    refused(ValidationError, /keep: 3 needs room for 4 .* keeps 3/),
  );
});

Deno.test("options of an adapter sync that cannot be are refused by name", () => {
  const serverUrl = "http://127.0.0.1:1";
  for (
    const [options, message] of [
      [{}, /one of engine, serverUrl and workers/],
      [{ serverUrl, workers: [{ url: serverUrl }] }, /one of engine, serverUrl and workers/],
      [{ workers: [] }, /workers is empty/],
      [{ serverUrl, keep: 0 }, /keep must be a whole number from 1 on, got 0/],
      [{ serverUrl, via: "disk" }, /via must be .* got "disk"/],
      [{ serverUrl, loadMs: 0 }, /loadMs must be a number above 0/],
      [{ serverUrl, unloadMs: NaN }, /unloadMs must be a number above 0/],
      [{ serverUrl, maxBytes: -1 }, /maxBytes must be a number above 0/],
    ] as const
  ) {
    assert.throws(
      () => new LoraSyncScheme(options as ConstructorParameters<typeof LoraSyncScheme>[0]),
      refused(ValidationError, message),
    );
  }
  for (const name of ["newest", "None", "a:b", "-a", ""]) {
    assert.throws(() => checkPolicyName(name), refused(ValidationError, /name of a policy/));
  }
});

Deno.test("an adapter that is asked for before there is one is told apart from a foreign name", () => {
  const versions = new AdapterVersions();
  assert.throws(() => versions.resolve("newest"), refused(StateError, /There is no adapter yet/));
  assert.equal(versions.resolve("somebody@3"), "somebody@3");
  using _lease = versions.lease(undefined, () => assert.fail());
  using _other = versions.lease("unknown", () => assert.fail());
});

Deno.test("by path goes only what a server reads as it is, and only while nobody writes to it", async () => {
  await using folder = await temporaryFolder();
  const model = await tinyCheckpoint();
  await using server = await EmbeddedServer.start({ model, lora: testLora });
  const adapter = await testAdapter(model, { seed: 1 });
  await writePeftFolder(`${folder.path}/a`, adapter);
  const sender = (serverPath?: { from: string; to: string }) =>
    new LoraSyncScheme({ serverUrl: server.url, via: "path", serverPath }).createSender();
  await using plain = sender();
  await assert.rejects(plain.updateAdapter(adapter), refused(UnsupportedError, /by path/));
  await using elsewhere = sender({ from: "/shared/", to: "/mnt/" });
  await assert.rejects(
    elsewhere.updateAdapter(`${folder.path}/a`),
    refused(ValidationError, /serverPath is for folders below \/shared\//),
  );
  await Deno.symlink(folder.path, `${folder.path}/seen`);
  await using mounted = sender({ from: folder.path, to: `${folder.path}/seen` });
  const report = await mounted.updateAdapter(`${folder.path}/a`);
  assert.deepEqual([report.name, report.via], ["policy@1", "path"]);
});

Deno.test("a base model that is not on this machine is asked for, unless its shapes are trusted", async () => {
  const model = await tinyCheckpoint();
  await using server = await EmbeddedServer.start({ model, lora: testLora });
  const adapter = await testAdapter(model, { seed: 1 });
  await using wrong = new LoraSyncScheme({
    serverUrl: server.url,
    baseFolder: "/nowhere",
    // A folder that was given is meant.
    trustShapes: true,
  }).createSender();
  await assert.rejects(wrong.updateAdapter(adapter), refused(StateError, /Give baseFolder/));
});

Deno.test("a sender that is closed takes nothing, and closes twice", async () => {
  const model = await tinyCheckpoint();
  await using server = await EmbeddedServer.start({ model, lora: testLora });
  const sender = new LoraSyncScheme({ workers: [{ url: server.url }] }).createSender();
  const { name } = await sender.updateAdapter(await testAdapter(model, { seed: 1 }));
  assert.deepEqual(sender.adapters.loaded, [{ name, uses: 0, servers: 1 }]);
  assert.ok(sender.adapters.has(name));
  await sender.adapters.clear();
  assert.deepEqual(sender.adapters.loaded, []);
  assert.deepEqual([...sender.adapters.newest], []);
  await sender.close();
  await sender.close();
  await assert.rejects(
    sender.updateAdapter(await testAdapter(model, { seed: 2 })),
    refused(StateError, /closed/),
  );
});

Deno.test("collectors are told the versions of their policy before and after", async () => {
  const model = await tinyCheckpoint();
  await using server = await EmbeddedServer.start({ model, lora: testLora });
  await using sender = new LoraSyncScheme({ serverUrl: server.url }).createSender();
  const collector = (log: string[]) => ({
    announceVersion: (version: string) => void log.push(`soon ${version}`),
    incrementVersion: (version: string) => void log.push(version),
    expectPauseMode: (mode: string) => void log.push(mode),
  });
  const [all, left]: [string[], string[]] = [[], []];
  sender.registerCollector(collector(all));
  sender.registerCollector(collector(left), { policy: "left" });
  assert.throws(() => sender.registerCollector(collector([]), { policy: "a b" }), ValidationError);
  await sender.updateAdapter(await testAdapter(model, { seed: 1 }), { name: "left" });
  await sender.updateAdapter(await testAdapter(model, { seed: 2 }), { name: "right" });
  assert.deepEqual(left, ["abort", "soon left@1", "left@1"]);
  assert.deepEqual(all, ["abort", "soon left@1", "left@1", "soon right@1", "right@1"]);
});
