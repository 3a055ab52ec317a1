/** Weights into real SGLang servers by raw HTTP and our rank 0: nothing of the sync scheme. */
import assert from "node:assert/strict";
import { type Checkpoint, openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import type { BroadcastPart } from "../../../src/collective/group.ts";
import { UnreachableError } from "../../../src/errors.ts";
import { modelPath, type SGLangVersion, startRealServer } from "../../_support/real.ts";

const LIMIT_MS = 60_000;

async function post(url: string, path: string, body: unknown): Promise<[number, unknown]> {
  const response = await fetch(url + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(LIMIT_MS),
  });
  const text = await response.text();
  return [response.status, text.startsWith("{") ? JSON.parse(text) : text];
}

async function greedy(url: string): Promise<number[]> {
  const [status, body] = await post(url, "/generate", {
    input_ids: [10, 20, 30, 40],
    sampling_params: { max_new_tokens: 16, temperature: 0, ignore_eos: true },
  });
  assert.equal(status, 200);
  return (body as { output_ids: number[] }).output_ids;
}

async function loadFromDisk(url: string, model: "tiny" | "tiny1"): Promise<void> {
  const [status] = await post(url, "/update_weights_from_disk", { model_path: modelPath(model) });
  assert.equal(status, 200);
}

async function openGroup(url: string, groupName: string): Promise<GlooGroup> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const group = await GlooGroup.open(
    { masterAddress: "127.0.0.1", masterPort: 0, groupName, worldSize: 2 },
    { signal },
  );
  const joined = post(url, "/init_weights_update_group", {
    master_address: group.masterAddress,
    master_port: group.masterPort,
    rank_offset: 1,
    world_size: 2,
    group_name: groupName,
    backend: "gloo",
  });
  await group.connect({ signal });
  assert.equal((await joined)[0], 200);
  return group;
}

async function partsOf(checkpoint: Checkpoint, flattened: boolean): Promise<BroadcastPart[]> {
  const parts = await Promise.all(
    [...checkpoint.tensors.values()].map(async ({ name, dtype }) => ({
      bytes: await checkpoint.read(name),
      dtype,
    })),
  );
  if (!flattened) return parts;
  const bytes = new Uint8Array(checkpoint.byteLength);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part.bytes, offset);
    offset += part.bytes.length;
  }
  return [{ bytes, dtype: "uint8" }];
}

async function update(
  url: string,
  group: GlooGroup,
  how: { model: "tiny" | "tiny1"; flattened: boolean; hasSession: boolean },
): Promise<void> {
  await using checkpoint = await openCheckpoint(modelPath(how.model));
  const tensors = [...checkpoint.tensors.values()];
  if (how.hasSession) assert.equal((await post(url, "/begin_weight_update", {}))[0], 200);
  const answered = post(url, "/update_weights_from_distributed", {
    names: tensors.map(({ name }) => name),
    dtypes: tensors.map(({ dtype }) => dtype),
    shapes: tensors.map(({ shape }) => shape),
    group_name: group.groupName,
    flush_cache: false,
    ...(how.flattened ? { load_format: "flattened_bucket" } : {}),
  });
  const signal = AbortSignal.timeout(LIMIT_MS);
  await group.broadcast(await partsOf(checkpoint, how.flattened), { signal });
  const [status, body] = await answered;
  assert.equal(status, 200, JSON.stringify(body));
  if (how.hasSession) assert.equal((await post(url, "/end_weight_update", {}))[0], 200);
  assert.equal((await post(url, "/flush_cache?timeout=10", {}))[0], 200);
}

const versions: ReadonlyArray<{ version: SGLangVersion; hasSession: boolean }> = [
  { version: "0.5.16", hasSession: false },
  { version: "0.5.23", hasSession: true },
];

for (const { version, hasSession } of versions) {
  Deno.test(`SGLang ${version} takes weights from our rank 0`, async (t) => {
    await using server = await startRealServer({ version });
    const { url } = server;
    const outputs = { tiny: await greedy(url), tiny1: [] as number[] };
    await loadFromDisk(url, "tiny1");
    outputs.tiny1 = await greedy(url);
    assert.notDeepEqual(outputs.tiny, outputs.tiny1);

    await t.step(
      "it then answers as if it had loaded the checkpoint, ten times in turn",
      async () => {
        await using group = await openGroup(url, "turns");
        for (let i = 0; i < 10; i++) {
          const model = i % 2 === 0 ? "tiny" : "tiny1";
          await update(url, group, { model, flattened: i % 4 < 2, hasSession });
          assert.deepEqual(await greedy(url), outputs[model]);
        }
        const [status] = await post(url, "/destroy_weights_update_group", { group_name: "turns" });
        assert.equal(status, 200);
      },
    );

    await t.step(
      "a server that was told another shape refuses, and takes the next update",
      async () => {
        const group = await openGroup(url, "shapes");
        if (hasSession) await post(url, "/begin_weight_update", {});
        const answered = post(url, "/update_weights_from_distributed", {
          names: ["model.norm.weight"],
          dtypes: ["float32"],
          shapes: [[64]],
          group_name: "shapes",
          flush_cache: false,
        });
        const short = { bytes: new Uint8Array(63 * 4), dtype: "float32" } as const;
        const signal = AbortSignal.timeout(LIMIT_MS);
        await assert.rejects(group.broadcast([short], { signal }), /expects 256 bytes.* 252/);
        await group.abort(new Error("refused"));
        assert.equal((await answered)[0], 400);
        if (hasSession) await post(url, "/end_weight_update", {});
        await post(url, "/destroy_weights_update_group", { group_name: "shapes" });
        await using next = await openGroup(url, "shapes");
        await update(url, next, { model: "tiny", flattened: true, hasSession });
        assert.deepEqual(await greedy(url), outputs.tiny);
        await post(url, "/destroy_weights_update_group", { group_name: "shapes" });
      },
    );

    await t.step(
      "a group that ends before the broadcast ends the server's wait at once",
      async () => {
        const group = await openGroup(url, "gone");
        if (hasSession) await post(url, "/begin_weight_update", {});
        const answered = post(url, "/update_weights_from_distributed", {
          names: ["model.norm.weight"],
          dtypes: ["float32"],
          shapes: [[64]],
          group_name: "gone",
          flush_cache: false,
        });
        await new Promise((resolve) => setTimeout(resolve, 300));
        await group.abort(new UnreachableError("test", { url }));
        assert.equal((await answered)[0], 400);
        if (hasSession) await post(url, "/end_weight_update", {});
        await post(url, "/destroy_weights_update_group", { group_name: "gone" });
        assert.equal((await greedy(url)).length, 16);
      },
    );

    await t.step("an init whose group is given up before the ranks meet is answered", async () => {
      const group = await GlooGroup.open(
        { masterAddress: "127.0.0.1", masterPort: 0, groupName: "half", worldSize: 3 },
        { signal: AbortSignal.timeout(LIMIT_MS) },
      );
      const joined = post(url, "/init_weights_update_group", {
        master_address: group.masterAddress,
        master_port: group.masterPort,
        rank_offset: 1,
        world_size: 3,
        group_name: "half",
        backend: "gloo",
      });
      await assert.rejects(group.connect({ signal: AbortSignal.timeout(1_500) }));
      await group.abort(new Error("a rank is missing"));
      assert.equal((await joined)[0], 400);
      assert.equal((await greedy(url)).length, 16);
    });
  });
}
