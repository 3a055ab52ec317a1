/** Servers that load wrongly: each level of `verify` notices what it says that it would notice. */
import assert from "node:assert/strict";
import { EmbeddedServer, type Faults } from "../../../src/embedded/mod.ts";
import { safetensors } from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme, type VerifyLevel } from "../../../src/weights/mod.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";

type Misload = NonNullable<Faults["misloadUpdates"]>;

/** Syncs two servers, of which the second loads wrongly, or both do. */
async function syncWrongly(
  options: {
    readonly verify: VerifyLevel;
    readonly how: Misload;
    readonly arch: "llama" | "qwen2";
    readonly both?: boolean;
  },
) {
  const { verify, how, arch, both = false } = options;
  const [old, next] = [
    await tinyCheckpoint({ arch, seed: 0 }),
    await tinyCheckpoint({ arch, seed: 1 }),
  ];
  const faults = { misloadUpdates: how };
  await using first = await EmbeddedServer.start({
    model: old,
    version: "0.5.23",
    faults: both ? faults : {},
  });
  await using second = await EmbeddedServer.start({ model: old, version: "0.5.23", faults });
  await using sender = new SGLangWeightSyncScheme({
    workers: [first.url, second.url],
    transport: "gloo",
    env: () => undefined,
    verify,
  }).createSender();
  await sender.initAllWorkersGroup();
  try {
    return await sender.updateWeights(safetensors(next));
  } finally {
    // Whatever the servers hold, it is not told to be the new weights, and nobody is served by it.
    for (const server of [first, second]) {
      assert.match(server.stats.weightVersion, /^incomplete:/);
      assert.equal(server.stats.paused, true);
    }
  }
}

const wrong: Misload[] = ["skip", "flip", "swap"];

for (const how of wrong) {
  Deno.test(`checksum notices a server that ${how}s`, async () => {
    await assert.rejects(syncWrongly({ verify: "checksum", how, arch: "qwen2" }), {
      code: "weight_sync",
      message: /they should be equal/,
    });
  });

  Deno.test(`sample notices servers that ${how}, also when all do, where the model tells values`, async () => {
    for (const both of [false, true]) {
      await assert.rejects(syncWrongly({ verify: "sample", how, arch: "llama", both }), {
        code: "weight_sync",
        message: /holds .* at position \d+ of ".*norm\.weight", sent was/,
      });
    }
  });

  Deno.test(`sample lets servers that ${how} disagree on a continuation, where the model tells none`, async () => {
    await assert.rejects(syncWrongly({ verify: "sample", how, arch: "qwen2" }), {
      code: "weight_sync",
      message: /with equal weights they should agree/,
    });
  });
}

Deno.test("right weights pass every level", async () => {
  for (const arch of ["llama", "qwen2"] as const) {
    const next = await tinyCheckpoint({ arch, seed: 1 });
    for (const verify of ["off", "version", "sample", "checksum"] as const) {
      const model = await tinyCheckpoint({ arch });
      await using server = await EmbeddedServer.start({ model, version: "0.5.23" });
      await using sender = new SGLangWeightSyncScheme({
        serverUrl: server.url,
        transport: "gloo",
        env: () => undefined,
        verify,
      }).createSender();
      await sender.initAllWorkersGroup();
      const report = await sender.updateWeights(safetensors(next));
      assert.equal(report.verified, verify);
      assert.equal(report.checksums?.length, verify === "checksum" ? 1 : undefined);
    }
  }
});
