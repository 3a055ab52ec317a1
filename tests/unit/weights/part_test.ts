/** Syncs of a part of the tensors: named, proved, and refused where they would leave a mixture. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { openCheckpoint, writeSafetensors } from "../../../src/checkpoint/mod.ts";
import { SGLangClient } from "../../../src/client/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { SGLangWeightSyncScheme, type WeightPattern } from "../../../src/weights/mod.ts";
import type { GivenOptions, WeightSyncOptions } from "../../../src/weights/options.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { type CheckOptions, checkTensors } from "../../../src/weights/sync/names.ts";
import { Part } from "../../../src/weights/sync/part.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { weightsStandIn } from "../../_support/weights_stand_in.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";
import { metadata, schemeFor, state } from "./_small_model.ts";

/** One that tells checksums on a CPU. */
const version = "0.5.23";

function senderTo(servers: readonly EmbeddedServer[], options: GivenOptions = {}) {
  return new SGLangWeightSyncScheme({
    workers: servers.map(({ url }) => ({ url })),
    transport: "gloo",
    env: () => undefined,
    ...options,
  } as WeightSyncOptions).createSender();
}

async function checksum(server: EmbeddedServer): Promise<string> {
  await using client = new SGLangClient({ url: server.url });
  return JSON.stringify((await client.weightsChecker("checksum")).per_engine_checksum);
}

/** The checksum of a server that loads tensors of `fresh` where `has` says so, else of `old`. */
async function checksumOfMixture(old: string, fresh: string, has: (name: string) => boolean) {
  await using folder = await temporaryFolder();
  for (const { name } of Deno.readDirSync(old)) {
    if (name.endsWith(".safetensors")) continue;
    await Deno.copyFile(`${old}/${name}`, `${folder.path}/${name}`);
  }
  await using a = await openCheckpoint(old);
  await using b = await openCheckpoint(fresh);
  const tensors = await Promise.all([...a.tensors.values()].map(async (tensor) => ({
    ...tensor,
    data: await (has(tensor.name) ? b : a).read(tensor.name),
  })));
  await writeSafetensors(`${folder.path}/model.safetensors`, tensors);
  await using server = await EmbeddedServer.start({ model: folder.path, version });
  return await checksum(server);
}

Deno.test("a part reaches every server, by every proof, and nothing else changes", async () => {
  const [old, fresh] = [await tinyCheckpoint({ seed: 0 }), await tinyCheckpoint({ seed: 1 })];
  const ways: [WeightPattern | WeightPattern[], (name: string) => boolean][] = [
    ["model.layers.0.*", (name) => name.startsWith("model.layers.0.")],
    [/norm\.weight$/g, (name) => name.endsWith("norm.weight")],
    [["model.norm.weight", "*.q_proj.*"], (name) => /q_proj|model\.norm/.test(name)],
  ];
  for (const [only, has] of ways) {
    await using one = await EmbeddedServer.start({ model: old, version });
    await using two = await EmbeddedServer.start({ model: old, version });
    await using sender = senderTo([one, two], { verify: "sample", bucketBytes: 20_000 });
    await sender.initAllWorkersGroup();
    const check = await sender.checkWeights(safetensors(fresh), { only });
    const report = await sender.updateWeights(safetensors(fresh), { only, version: "part" });
    const { part } = report;
    assert.ok(part!.names.every(has));
    assert.equal(part!.names.length, report.tensors);
    assert.equal(check.tensors, report.tensors);
    assert.equal(part!.baseVersion, "default");
    assert.deepEqual([one, two].map(({ stats }) => stats.weightVersion), ["part", "part"]);
    const wanted = await checksumOfMixture(old, fresh, has);
    assert.deepEqual([await checksum(one), await checksum(two)], [wanted, wanted]);
    // A whole sync afterwards leaves nothing of the mixture.
    const whole = await sender.updateWeights(safetensors(fresh));
    assert.equal(whole.part, undefined);
    assert.equal(await checksum(one), await checksumOfMixture(old, fresh, () => true));
  }
});

Deno.test("a part goes only to servers that hold the same weights whole", async () => {
  const [old, fresh] = [await tinyCheckpoint({ seed: 0 }), await tinyCheckpoint({ seed: 1 })];
  await using one = await EmbeddedServer.start({ model: old, version });
  await using two = await EmbeddedServer.start({ model: old, version });
  const only = "model.layers.1.*";
  {
    await using sender = senderTo([one]);
    await sender.initAllWorkersGroup();
    await sender.updateWeights(safetensors(fresh), { version: "step-1" });
  }
  await using sender = senderTo([one, two]);
  await sender.initAllWorkersGroup();
  const before = [await checksum(one), await checksum(two)];
  const refusal = { message: /servers that hold the same weights whole.*Sync all tensors first/s };
  await assert.rejects(sender.updateWeights(safetensors(fresh), { only }), refusal);
  await assert.rejects(sender.checkWeights(safetensors(fresh), { only }), refusal);
  assert.deepEqual([await checksum(one), await checksum(two)], before);
  await sender.updateWeights(safetensors(fresh));
  const { part } = await sender.updateWeights(safetensors(old), { only });
  assert.equal(part?.baseVersion, "1");
  await using client = new SGLangClient({ url: one.url });
  for (const mark of ["incomplete:2", "updating:other~1:2"]) {
    await client.updateWeightVersion(mark);
    await using other = senderTo([one], { soleTrainer: true });
    await other.initAllWorkersGroup();
    await assert.rejects(other.updateWeights(safetensors(old), { only }), refusal);
  }
});

Deno.test("a server that was away cannot be brought up to date from the source of a part", async () => {
  const [old, fresh] = [await tinyCheckpoint({ seed: 0 }), await tinyCheckpoint({ seed: 1 })];
  await using server = await EmbeddedServer.start({ model: old, version });
  await using engine = await AsyncSGLang.connect(server.url);
  await using sender = new SGLangWeightSyncScheme({ engine, transport: "gloo" }).createSender();
  await sender.initAllWorkersGroup();
  await sender.updateWeights(safetensors(fresh));
  await sender.updateWeights(safetensors(old), { only: "model.norm.weight" });
  await assert.rejects(engine.refitWorker(server.url), /may have changed since/);
});

Deno.test("patterns that are none, match nothing, or leave something out are refused before a call", async () => {
  await using server = weightsStandIn();
  await using sender = schemeFor(server.url).createSender();
  await sender.initAllWorkersGroup(metadata);
  const wrong: [unknown, RegExp][] = [
    ["", /only must be a pattern/],
    [[], /only must be a pattern/],
    [[3], /only must be a pattern/],
    [{}, /only must be a pattern/],
    ["2.*", /no weight of .* has such a name; it has '0\.weight'/],
  ];
  for (const [only, message] of wrong) {
    await assert.rejects(
      sender.updateWeights(state, { only: only as WeightPattern }),
      { code: "validation", message },
    );
  }
  const { "0.bias": _bias, ...rest } = state;
  await assert.rejects(sender.updateWeights(rest, { only: "0.*" }), {
    code: "validation",
    message: /Weight '0\.bias' not found/,
  });
  const report = await sender.updateWeights(rest, { only: "0.w*" });
  assert.deepEqual(report.part?.names, ["0.weight"]);
});

Deno.test("a quantised weight goes with its scales or not at all", () => {
  const info = { dtype: "float32", shape: [1] } as const;
  const names = [
    "a.q.weight",
    "a.q.weight_scale_inv",
    "a.k.weight",
    "a.norm.weight",
    "a.norm.bias",
  ];
  const reference: CheckOptions = {
    reference: new Map(names.map((name) => [name, info])),
    referenceLabel: "the model",
    kind: "model",
    tied: new Map(),
  };
  assert.throws(() => new Part("*.weight").of(reference), /without 'a\.q\.weight_scale_inv'/);
  assert.throws(() => new Part("*_inv").of(reference), /takes 'a\.q\.weight_scale_inv' without/);
  const part = new Part(["a.q.*", "a.norm.weight"]).of(reference).reference;
  assert.deepEqual([...part.keys()], ["a.q.weight", "a.q.weight_scale_inv", "a.norm.weight"]);
});

Deno.test("of any names and patterns a part is just the names that match", () => {
  const name = fc.stringMatching(/^[ab.*+()[\]]{1,6}$/);
  const info = { dtype: "float32", shape: [1] } as const;
  fc.assert(fc.property(fc.uniqueArray(name, { minLength: 1 }), name, (names, pattern) => {
    const matches = (text: string) => {
      // Slowly and plainly: each star takes what lets the rest match.
      const at = (i: number, j: number): boolean =>
        j === pattern.length
          ? i === text.length
          : pattern[j] === "*"
          ? at(i, j + 1) || (i < text.length && at(i + 1, j))
          : text[i] === pattern[j] && at(i + 1, j + 1);
      return at(0, 0);
    };
    const part = new Part(pattern);
    assert.deepEqual(names.filter((one) => part.has(one)), names.filter(matches));
    const reference: CheckOptions = {
      reference: new Map(names.map((one) => [one, info])),
      referenceLabel: "the model",
      kind: "model",
      tied: new Map(),
    };
    const wanted = names.filter(matches);
    if (wanted.length === 0) return void assert.throws(() => part.of(reference));
    const tensors = wanted.map((one) => ({ name: one, ...info }));
    assert.equal(checkTensors(tensors, part.of(reference)).send.length, wanted.length);
  }));
});
