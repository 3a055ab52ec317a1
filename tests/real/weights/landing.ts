/** New weights arrive: on one server and several, in every form, with generation going on. */
import assert from "node:assert/strict";
import { bfloat16ToFloat32, openCheckpoint } from "../../../src/checkpoint/mod.ts";
import {
  safetensors,
  type StateDict,
  weightIterator,
  type WeightTensor,
} from "../../../src/weights/source/mod.ts";
import type { SyncPhase } from "../../../src/weights/mod.ts";
import { castToBFloat16 } from "../../../src/weights/source/cast.ts";
import { modelPath } from "../../_support/real.ts";
import { type Fleet, greedy, keepGenerating } from "../../_support/weights.ts";

const ROUNDS = 20;

/** Registers the tests. */
export function landing(fleet: () => Fleet): void {
  for (const pauseMode of ["abort", "retract", "in_place"] as const) {
    const name = `${ROUNDS} syncs there and back while generations run, pause mode ${pauseMode}`;
    Deno.test(name, async () => {
      await using sender = await fleet().sender({ pauseMode, bucketBytes: 300_000 });
      await using running = new AsyncDisposableStack();
      const loads = fleet().members.map((member) => running.use(keepGenerating(member, 2)));
      for (let round = 0; round < ROUNDS; round++) {
        const model = round % 2 === 0 ? "tiny1" : "tiny";
        const report = await sender.updateWeights(safetensors(modelPath(model)));
        assert.equal(report.servers.length, 2);
        assert.ok(
          report.servers.every(({ condition, paused }) => condition === "complete" && !paused),
        );
        await fleet().serves(model);
      }
      const samples = (await Promise.all(loads.map((load) => load.stop()))).flat();
      assert.ok(samples.length >= 4);
      const marked = samples.filter(({ weightVersion }) => weightVersion?.includes(":"));
      assert.deepEqual(marked, [], "no token is made under the mark of a running sync");
      const ends = new Set(samples.map(({ finishReason }) => finishReason.type));
      if (pauseMode !== "abort") assert.deepEqual([...ends], ["length"], "no request is lost");
    });
  }

  Deno.test("one server alone, sent tensor by tensor, leaves the other as it was", async () => {
    const [first, second] = fleet().members;
    const before = await greedy(second!);
    await using sender = await fleet().sender({ workers: [first!.url], flattened: false });
    const report = await sender.updateWeights(safetensors(modelPath("tiny1")));
    assert.equal(report.buckets, 1);
    await fleet().serves("tiny1", [first!]);
    assert.equal(await greedy(second!), before);
  });

  Deno.test("a state dict, nested weights and an iterator give what the checkpoint gives", async () => {
    await using sender = await fleet().sender({ verify: "sample" });
    const tensors = await readAll(modelPath("tiny1"));
    const nested: Record<string, Record<string, WeightTensor>> = {};
    for (const [name, tensor] of Object.entries(tensors)) {
      const dot = name.indexOf(".");
      (nested[name.slice(0, dot)] ??= {})[name.slice(dot + 1)] = tensor;
    }
    const iterated = weightIterator(async function* () {
      for (const [name, tensor] of Object.entries(tensors)) yield { name, ...tensor };
    });
    for (const weights of [tensors, nested, iterated]) {
      await sender.updateWeights(safetensors(modelPath("tiny")));
      await fleet().serves("tiny");
      await sender.updateWeights(weights);
      await fleet().serves("tiny1");
    }
  });

  Deno.test("float32 cast to bfloat16 and a mix of types give the same as the same from disk", async () => {
    const folder = await Deno.makeTempDir();
    try {
      await using byDisk = await fleet().sender({ transport: "disk", disk: { folder } });
      await byDisk.updateWeights(castToBFloat16(safetensors(modelPath("tiny1"))));
      const expected = await Promise.all(fleet().members.map(greedy));
      assert.equal((await Array.fromAsync(Deno.readDir(folder))).length, 1);

      await using cast = await fleet().sender({ castFloat32To: "bfloat16", bucketBytes: 100_000 });
      await cast.updateWeights(safetensors(modelPath("tiny")));
      await cast.updateWeights(safetensors(modelPath("tiny1")));
      assert.deepEqual(await Promise.all(fleet().members.map(greedy)), expected);

      await using mixed = await fleet().sender({ bucketBytes: 100_000, flattened: true });
      await mixed.updateWeights(safetensors(modelPath("tiny")));
      await mixed.updateWeights(await halfAsBFloat16(modelPath("tiny1")));
      assert.deepEqual(await Promise.all(fleet().members.map(greedy)), expected);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  Deno.test("a folder is read by the servers where it lies", async () => {
    await using sender = await fleet().sender({ transport: "disk" });
    const report = await sender.updateWeights(safetensors(modelPath("tiny")));
    assert.equal(report.transport, "disk");
    await fleet().serves("tiny");
  });

  Deno.test("verify checksum proves equal weights where servers tell one", async () => {
    const newest = fleet().members[1]!;
    await using sender = await fleet().sender({ workers: [newest.url], verify: "checksum" });
    const first = await sender.updateWeights(safetensors(modelPath("tiny1")));
    const second = await sender.updateWeights(safetensors(modelPath("tiny")));
    const third = await sender.updateWeights(safetensors(modelPath("tiny1")));
    assert.notDeepEqual(first.checksums, second.checksums);
    assert.deepEqual(first.checksums, third.checksums);
  });

  Deno.test("versions count on, can be given, and are told to collectors", async () => {
    const told: string[] = [];
    await using sender = await fleet().sender();
    sender.registerModel(safetensors(modelPath("tiny")));
    sender.registerCollector({ incrementVersion: (version) => void told.push(version) });
    await sender.updateWeights(undefined, { version: "41" });
    await sender.updateWeights();
    await sender.updateWeights(undefined, { version: "step-9" });
    assert.deepEqual(told, ["41", "42", "step-9"]);
    for (const { client } of fleet().members) {
      assert.equal((await client.modelInfo()).weightVersion, "step-9");
    }
  });

  Deno.test("servers that somebody paused hold the new weights and stay paused", async () => {
    const { members } = fleet();
    await using sender = await fleet().sender();
    await sender.updateWeights(safetensors(modelPath("tiny")));
    for (const { client } of members) {
      assert.equal(await client.checkPaused({ timeoutMs: 10_000 }), false);
      await client.pause("retract");
      assert.equal(await client.checkPaused({ timeoutMs: 10_000 }), true);
    }
    const { servers } = await sender.updateWeights(safetensors(modelPath("tiny1")));
    assert.ok(servers.every(({ condition, paused }) => condition === "complete" && paused));
    for (const { client } of members) {
      assert.equal(await client.checkPaused({ timeoutMs: 10_000 }), true);
      await client.resume();
      assert.equal(await client.checkPaused({ timeoutMs: 10_000 }), false);
    }
    await fleet().serves("tiny1");
  });

  Deno.test("progress names every step and counts every byte", async () => {
    await using sender = await fleet().sender({ bucketBytes: 200_000 });
    const phases = new Set<SyncPhase>();
    let done = 0;
    const report = await sender.updateWeights(safetensors(modelPath("tiny1")), {
      onProgress(progress) {
        phases.add(progress.phase);
        assert.ok(progress.bytesDone >= done);
        done = progress.bytesDone;
      },
    });
    assert.equal(done, report.sizeBytes);
    assert.ok(report.buckets > 1);
    for (const phase of ["probe", "check", "pause", "flush", "begin", "update", "end", "resume"]) {
      assert.ok(phases.has(phase as SyncPhase), phase);
    }
  });
}

async function readAll(folder: string): Promise<Record<string, WeightTensor>> {
  await using checkpoint = await openCheckpoint(folder);
  const tensors: Record<string, WeightTensor> = {};
  for (const { name, dtype, shape } of checkpoint.tensors.values()) {
    tensors[name] = { dtype, shape, data: await checkpoint.read(name) };
  }
  return tensors;
}

/** Every second tensor as bfloat16, the others rounded to what bfloat16 keeps. */
async function halfAsBFloat16(folder: string): Promise<StateDict> {
  const tensors: Record<string, WeightTensor> = {};
  await using open = await castToBFloat16(safetensors(folder)).open();
  const signal = new AbortController().signal;
  for (const [i, { name, shape }] of open.tensors.entries()) {
    const halves = new Uint16Array(shape.reduce((product, size) => product * size, 1));
    await open.read(i, new Uint8Array(halves.buffer), { signal });
    tensors[name] = i % 2 === 0
      ? { shape, dtype: "bfloat16", data: halves }
      : { shape, data: bfloat16ToFloat32(halves) };
  }
  return tensors;
}
