import assert from "node:assert/strict";
import fc from "fast-check";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { GlooGroup } from "../../../src/collective/gloo/group.ts";
import type { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { get, greedy, post, startTiny, tinyCheckpoint } from "./_support.ts";
import { turns, until } from "../../_support/clock.ts";

interface Reply {
  readonly success: boolean;
  readonly message: string;
}

const { signal } = new AbortController();
const group = { group_name: "g" };

async function checksum(server: EmbeddedServer): Promise<string> {
  const { body } = await post<{ per_engine_checksum: string }>(server, "/weights_checker", {
    action: "checksum",
  });
  return body.per_engine_checksum;
}

/** Rank 0 of a group with these servers, which have joined it. */
async function openGroup(servers: readonly EmbeddedServer[]): Promise<GlooGroup> {
  const worldSize = servers.length + 1;
  const root = await GlooGroup.open({
    masterAddress: "127.0.0.1",
    masterPort: 0,
    groupName: "g",
    worldSize,
  }, { signal });
  const inits = servers.map((server, i) =>
    post<Reply>(server, "/init_weights_update_group", {
      ...group,
      master_address: "127.0.0.1",
      master_port: root.masterPort,
      rank_offset: i + 1,
      world_size: worldSize,
      backend: "gloo",
    })
  );
  await root.connect({ signal });
  for (const { body } of await Promise.all(inits)) {
    assert.equal(body.message, "Succeeded to initialize custom process group.");
  }
  return root;
}

/** Sends a checkpoint to servers of a group; the body's further fields are given. */
async function send(
  root: GlooGroup,
  servers: readonly EmbeddedServer[],
  options: { folder: string; bucket?: boolean } & Record<string, unknown>,
): Promise<Reply[]> {
  const { folder, bucket = false, ...more } = options;
  await using checkpoint = await openCheckpoint(folder);
  const tensors = [...checkpoint.tensors.values()];
  const replies = servers.map((server) =>
    post<Reply>(server, "/update_weights_from_distributed", {
      ...group,
      names: tensors.map((tensor) => tensor.name),
      dtypes: tensors.map((tensor) => tensor.dtype),
      shapes: tensors.map((tensor) => tensor.shape),
      ...(bucket ? { load_format: "flattened_bucket" } : {}),
      ...more,
    })
  );
  const parts = await Promise.all(tensors.map(async ({ name, dtype }) => ({
    bytes: await checkpoint.read(name),
    dtype,
  })));
  const joined = Uint8Array.from(parts.flatMap(({ bytes }) => [...bytes]));
  await root.broadcast(bucket ? [{ bytes: joined, dtype: "uint8" }] : parts, { signal });
  return (await Promise.all(replies)).map(({ body }) => body);
}

Deno.test("disk: the new weights act, and path and version change", async () => {
  const next = await tinyCheckpoint({ seed: 1 });
  await using server = await startTiny();
  await using reference = await startTiny({ model: next });
  const before = await greedy(server);
  const { status, body } = await post<Reply>(server, "/update_weights_from_disk", {
    model_path: next,
    weight_version: "v1",
  });
  assert.equal(status, 200);
  assert.equal(body.message, "Succeeded to update model weights. Weight version updated to v1.");
  assert.notDeepEqual(await greedy(server), before);
  assert.deepEqual(await greedy(server), await greedy(reference));
  const info = await get(server, "/model_info");
  assert.equal(info.body.model_path, next);
  assert.equal(info.body.weight_version, "v1");
});

Deno.test("disk: a missing folder leaves the weights as they were", async () => {
  await using server = await startTiny();
  const before = await checksum(server);
  const { status, body } = await post<Reply>(server, "/update_weights_from_disk", {
    model_path: "/nowhere",
  });
  assert.equal(status, 400);
  assert.match(body.message, /^Failed to get weights iterator: .*nowhere/);
  assert.equal(await checksum(server), before);
});

for (const bucket of [false, true]) {
  Deno.test(`gloo: two servers get new weights, flattened bucket ${bucket}`, async () => {
    const next = await tinyCheckpoint({ seed: 1 });
    await using first = await startTiny();
    await using second = await startTiny();
    await using reference = await startTiny({ model: next });
    await using root = await openGroup([first, second]);
    const replies = await send(root, [first, second], {
      folder: next,
      bucket,
      weight_version: "v1",
    });
    const message = "Succeeded to update parameter online. Weight version updated to v1.";
    assert.deepEqual(replies, Array(2).fill({ success: true, message }));
    const wanted = await checksum(reference);
    assert.deepEqual([await checksum(first), await checksum(second)], [wanted, wanted]);
    assert.deepEqual(await greedy(second), await greedy(reference));
    for (const server of [first, second]) {
      const { body } = await post<Reply>(server, "/destroy_weights_update_group", group);
      assert.equal(body.message, "Succeeded to destroy custom process group.");
    }
  });
}

Deno.test("0.5.23: an update needs a session, and tokens tell which version made them", async () => {
  const next = await tinyCheckpoint({ seed: 1 });
  await using server = await startTiny({ version: "0.5.23" });
  await using root = await openGroup([server]);
  const refused = await post<Reply>(server, "/update_weights_from_distributed", {
    ...group,
    names: [],
    dtypes: [],
    shapes: [],
  });
  assert.equal(refused.status, 400);
  assert.match(refused.body.message, /must run between begin_weight_update\(\)/);

  const running = post(server, "/generate", {
    input_ids: [1, 2],
    sampling_params: { max_new_tokens: 200, temperature: 0, ignore_eos: true },
  });
  await until(() => server.stats.generatedTokens >= 5);
  await post(server, "/pause_generation", { mode: "in_place" });
  assert.equal((await post<Reply>(server, "/begin_weight_update", {})).body.message, "Success");
  const again = await post<Reply>(server, "/begin_weight_update", {});
  assert.match(again.body.message, /already open/);
  await send(root, [server], { folder: next, weight_version: "v1", flush_cache: false });
  assert.equal((await post<Reply>(server, "/end_weight_update", {})).status, 200);
  await post(server, "/continue_generation", {});

  const { meta_info: info } = (await running).body;
  const [old, fresh] = info.weight_versions!;
  assert.deepEqual([old!.version, old!.start], ["default", 0]);
  assert.deepEqual(fresh, { version: "v1", start: old!.end, end: 200 });
  assert.equal(info.weight_version, "v1");
});

Deno.test("0.5.16 has no sessions", async () => {
  await using server = await startTiny();
  assert.equal((await post(server, "/begin_weight_update", {})).status, 404);
});

Deno.test("an update of a running server waits for its requests and holds new ones back", async () => {
  const next = await tinyCheckpoint({ seed: 1 });
  await using server = await startTiny();
  const running = greedy(server, [1, 2, 3], 300);
  await until(() => server.stats.running > 0);
  const update = post<Reply>(server, "/update_weights_from_disk", {
    model_path: next,
    weight_version: "v1",
  });
  await turns(5);
  const late = post(server, "/generate", {
    input_ids: [4],
    sampling_params: { max_new_tokens: 1 },
  });
  assert.equal((await running).length, 300);
  assert.equal((await update).status, 200);
  assert.equal((await late).body.meta_info.weight_version, "v1");
});

Deno.test("flush_cache while requests wait: 0.5.16 dies, 0.5.23 says so and keeps the weights", async () => {
  const body = { model_path: await tinyCheckpoint({ seed: 1 }), weight_version: "v1" };
  for (const version of ["0.5.16", "0.5.23"] as const) {
    await using server = await startTiny({ version });
    const running = greedy(server, [1], 500).catch(() => []);
    await until(() => server.stats.running > 0);
    await post(server, "/pause_generation", { mode: "in_place" });
    const update = post<Reply>(server, "/update_weights_from_disk", body);
    if (version === "0.5.16") {
      await assert.rejects(update, TypeError);
      assert.equal(server.stats.crashed, true);
    } else {
      assert.equal((await update).status, 400);
      assert.match((await update).body.message, /^Weights were updated, but the cache was not/);
      await post(server, "/continue_generation", {});
    }
    await running;
  }
});

Deno.test("an update without flush leaves the old prefix behind, and a flush removes it", async () => {
  const next = await tinyCheckpoint({ seed: 1 });
  await using server = await startTiny();
  await using reference = await startTiny({ model: next });
  const prompt = Array.from({ length: 30 }, (_, i) => 10 + i);
  await greedy(server, prompt);
  await post(server, "/update_weights_from_disk", { model_path: next, flush_cache: false });
  const wanted = await greedy(reference, prompt);
  assert.notDeepEqual(await greedy(server, prompt), wanted);
  await post(server, "/flush_cache", {});
  assert.deepEqual(await greedy(server, prompt), wanted);
});

Deno.test("a wrong shape is refused with the real server's words", async () => {
  await using server = await startTiny();
  await using root = await openGroup([server]);
  const reply = post<Reply>(server, "/update_weights_from_distributed", {
    ...group,
    names: ["model.norm.weight"],
    dtypes: ["float32"],
    shapes: [[32]],
  });
  await root.broadcast([{ bytes: new Uint8Array(128), dtype: "float32" }], { signal });
  const { status, body } = await reply;
  assert.equal(status, 400);
  assert.match(body.message, /\(torch\.Size\(\[32\]\)\) into parameter \(torch\.Size\(\[64\]\)\)/);
});

Deno.test("groups: a lost rank 0 fails the update, and the server serves on", async () => {
  await using server = await startTiny();
  const root = await openGroup([server]);
  const twice = await post<Reply>(server, "/init_weights_update_group", {
    ...group,
    master_address: "127.0.0.1",
    master_port: root.masterPort,
    rank_offset: 1,
    world_size: 2,
    backend: "gloo",
  });
  assert.match(twice.body.message, /already been created/);
  const reply = post<Reply>(server, "/update_weights_from_distributed", {
    ...group,
    names: ["model.norm.weight"],
    dtypes: ["float32"],
    shapes: [[64]],
  });
  await turns(5);
  await root.close();
  assert.equal((await reply).status, 400);
  assert.equal((await greedy(server)).length, 12);
  assert.equal((await post(server, "/destroy_weights_update_group", group)).status, 200);
  assert.equal((await post(server, "/destroy_weights_update_group", group)).status, 400);
});

Deno.test("refuseUpdates: so many updates fail and change nothing", async () => {
  await using server = await startTiny({ faults: { refuseUpdates: 1 } });
  const body = { model_path: await tinyCheckpoint({ seed: 1 }) };
  const before = await checksum(server);
  assert.equal((await post(server, "/update_weights_from_disk", body)).status, 400);
  assert.equal(await checksum(server), before);
  assert.equal((await post(server, "/update_weights_from_disk", body)).status, 200);
});

Deno.test("update_weight_version renames and aborts only when told to or told nothing", async () => {
  await using server = await startTiny();
  const running = greedy(server, [1], 300);
  await until(() => server.stats.running > 0);
  const { body } = await post(server, "/update_weight_version", {
    new_version: "v7",
    abort_all_requests: false,
  });
  assert.deepEqual(body, {
    success: true,
    message: "Weight version updated to v7",
    new_version: "v7",
  });
  assert.equal((await running).length, 300);
  assert.equal((await post(server, "/update_weight_version", { new_version: 7 })).status, 400);
});

Deno.test("a body of another form is refused at once, wherever the wrong value stands", async () => {
  await using server = await startTiny();
  const good = { ...group, names: ["a", "b"], dtypes: ["float32", "float32"], shapes: [[1], [2]] };
  const texts = [1, null, {}, ["a"], true];
  const numbers = ["a", 1.5, null, {}, true, [1]];
  const wrongs = fc.oneof(
    fc.tuple(fc.constantFrom("names", "dtypes", "shapes"), fc.constantFrom("a", 1, null, {})),
    fc.tuple(
      fc.constantFrom("names", "dtypes"),
      fc.constantFrom(...texts).map((wrong) => ["float32", wrong]),
    ),
    fc.constantFrom(...numbers).map((wrong) => ["shapes", [[1], [2, wrong]]] as const),
    fc.constantFrom(...numbers).map((wrong) => ["shapes", [wrong === null ? 1 : wrong]] as const)
      .filter(([, [wrong]]) => !Array.isArray(wrong)),
    fc.constantFrom(...texts.filter((one) => one !== null)).map((wrong) =>
      ["weight_version", wrong] as const
    ),
    fc.constantFrom("maybe", 2, [], null).map((wrong) => ["flush_cache", wrong] as const),
    fc.constantFrom("names", "dtypes", "shapes").map((key) => [key, undefined] as const),
  );
  await fc.assert(
    fc.asyncProperty(wrongs, async ([key, wrong]) => {
      const body = { ...good, [key]: wrong };
      const reply = await post<Reply>(server, "/update_weights_from_distributed", body);
      assert.equal(reply.status, 400);
      assert.match(reply.body.message, new RegExp(`'loc': \\('body', '${key}'`));
    }),
    { numRuns: 60 },
  );
});

Deno.test("SGLang 0.5.16 has no checksums on a CPU, and neither has its double", async () => {
  for (
    const [version, action, status] of [
      ["0.5.16", "checksum", 400],
      ["0.5.16", "compare", 400],
      ["0.5.16", "snapshot", 200],
      ["0.5.23", "checksum", 200],
      ["0.5.23", "compare", 400],
    ] as const
  ) {
    await using server = await startTiny({ version });
    if (action === "compare") {
      // Nothing was noted to compare with.
      const early = await post<Reply>(server, "/weights_checker", { action });
      assert.deepEqual([early.status, early.body.message], [400, ""]);
      await post(server, "/weights_checker", { action: "snapshot" });
    }
    const reply = await post<Reply>(server, "/weights_checker", { action });
    assert.equal(reply.status, status, `${version} ${action}`);
    if (status === 400) assert.match(reply.body.message, /no NVIDIA driver/);
  }
});
