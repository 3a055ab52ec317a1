import assert from "node:assert/strict";
import { join } from "node:path";
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import {
  LLMCollector,
  RolloutBatch,
  type RolloutRow,
  toJsonLines,
  writeJsonLines,
  writeRollout,
} from "../../../src/collector/mod.ts";
import { toTensors } from "../../../src/collector/export/safetensors.ts";
import { countingEnvironments, fakePolicy } from "./_fakes.ts";

async function someBatch(track: "int" | "uuid" | false = "int"): Promise<RolloutBatch> {
  await using collector = new LLMCollector(countingEnvironments(2, 2), {
    policy: fakePolicy(),
    dialogTurnsPerBatch: 6,
    trackPolicyVersion: track,
  });
  collector.incrementVersion("step-1");
  return (await collector.rollout())!;
}

const emptyRow: RolloutRow = (await someBatch(false)).rows[0]!;

/** The same row with other fields. */
function changed(row: RolloutRow, more: Partial<RolloutRow>): RolloutBatch {
  return new RolloutBatch({ rows: [{ ...row, ...more }], shape: [1] });
}

Deno.test("JSON lines have one row a line with everything that is known of it", async () => {
  const batch = await someBatch();
  const lines = toJsonLines(batch).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.equal(lines.length, 6);
  assert.deepEqual(lines[1], {
    schema: "sglang-rl.rollout/2",
    dialog: 0,
    attempt: 0,
    group: 0,
    member: 0,
    environment: 0,
    turn: 1,
    parent: 0,
    branch: 1,
    messages: [
      { role: "user", content: "dialog 0" },
      { role: "assistant", content: "0 0" },
      { role: "user", content: "after 0" },
    ],
    response: { role: "assistant", content: "0 1" },
    prompt_ids: [7],
    response_ids: [0, 1],
    log_probs: [-0.5, -0.5],
    token_versions: [1, 1],
    versions_exact: true,
    weight_versions: null,
    reward: 1,
    done: true,
    truncated: false,
    finish_reason: "stop",
    server: null,
    stale: false,
    info: {},
  });
});

Deno.test("JSON lines name UUID versions and leave unknown columns null", async () => {
  const batch = await someBatch("uuid");
  const [line] = toJsonLines(batch).split("\n");
  assert.deepEqual(JSON.parse(line!).token_versions, [
    batch.versionNames[1],
    batch.versionNames[1],
  ]);
  const bare = changed(batch.rows[0]!, { promptIds: null, logProbs: null, tokenVersions: null });
  const record = JSON.parse(toJsonLines(bare));
  assert.deepEqual([record.prompt_ids, record.log_probs, record.token_versions], [
    null,
    null,
    null,
  ]);
});

Deno.test("a safetensors file holds the same rows end to end, with offsets", async () => {
  const batch = await someBatch();
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "batch.safetensors");
    await writeRollout(path, batch);
    await using file = await openCheckpoint(path);
    assert.equal(file.metadata.schema, "sglang-rl.rollout/2");
    assert.deepEqual(JSON.parse(file.metadata.shape!), [2, 3]);
    assert.deepEqual(JSON.parse(file.metadata.version_names!), ["0", "1"]);
    const ids = new Int32Array((await file.read("response_ids")).buffer);
    const offsets = new BigInt64Array((await file.read("response_offsets")).buffer);
    const rewards = new Float32Array((await file.read("reward")).buffer);
    const done = await file.read("done");
    for (const [i, row] of batch.rows.entries()) {
      const own = ids.subarray(Number(offsets[i]), Number(offsets[i + 1]));
      assert.deepEqual([...own], [...row.responseIds]);
      assert.deepEqual([rewards[i], done[i]], [row.reward, row.done ? 1 : 0]);
    }
    const text = new TextDecoder().decode(await file.read("response_text"));
    assert.equal(text, batch.rows.map((row) => row.response.content).join(""));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("columns that no row has are left out; those that some rows lack are refused", async () => {
  const { rows } = await someBatch(false);
  const names = toTensors(changed(rows[0]!, { logProbs: null })).map((tensor) => tensor.name);
  assert.ok(!names.includes("log_probs") && !names.includes("token_versions"));
  const mixed = new RolloutBatch({ rows: [rows[0]!, { ...rows[1]!, logProbs: null }], shape: [2] });
  assert.throws(() => toTensors(mixed), /Cannot write log_probs: 1 of 2 rows have it/);
  assert.throws(
    () => toTensors(changed(rows[0]!, { promptIds: null })),
    /Cannot write dialog 0, turn 0: its prompt ids are not known/,
  );
});

Deno.test("a file of JSON lines begins again or goes on, and holds what the text would", async () => {
  const batch = await someBatch();
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "rows.jsonl");
    await writeJsonLines(path, batch);
    await writeJsonLines(path, batch);
    assert.equal(await Deno.readTextFile(path), toJsonLines(batch));
    await writeJsonLines(path, batch, { append: true });
    assert.equal(await Deno.readTextFile(path), toJsonLines(batch).repeat(2));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("pieces of a safetensors column are the rows end to end, whatever their sizes", () => {
  const sizes = [0, 1, 300_000, 5, 262_144, 262_145, 0, 700_000, 3];
  const rows = sizes.map((size, index) => ({
    ...emptyRow,
    dialog: index,
    logProbs: null,
    responseIds: Int32Array.from({ length: size }, (_, i) => i * (index + 1)),
  }));
  const tensors = toTensors(new RolloutBatch({ rows, shape: [rows.length] }));
  const { data } = tensors.find((tensor) => tensor.name === "response_ids")!;
  assert.ok(typeof data === "function");
  const bytes: number[][] = [];
  for (const piece of data() as Iterable<Uint8Array>) {
    bytes.push([...new Int32Array(piece.slice().buffer)]);
  }
  assert.deepEqual(bytes.flat(), rows.flatMap((row) => [...row.responseIds]));
});
