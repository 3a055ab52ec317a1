import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { EnvironmentPool } from "../../../src/collector/environments/mod.ts";
import {
  LLMCollector,
  type LLMCollectorOptions,
  ReplayBuffer,
  type RolloutBatch,
  type RolloutRow,
} from "../../../src/collector/mod.ts";
import { SGLangError, StateError, ValidationError } from "../../../src/errors.ts";
import { rowOf } from "../../_support/rollout_rows.ts";
import { seeded } from "../../_support/seeded.ts";
import { countingEnvironment, fakePolicy } from "./_fakes.ts";

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function rowsOf(buffer: ReplayBuffer): RolloutRow[] {
  return buffer.sample(buffer.length).toSorted((a, b) => a.dialog - b.dialog);
}

const reals = fc.array(fc.float({ noNaN: false }), { maxLength: 20 });
const anyRow = fc.record({
  dialog: fc.nat(),
  reward: fc.double({ noNaN: true, noDefaultInfinity: true }),
  logs: fc.option(reals),
  prompt: fc.option(fc.array(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }))),
  versions: fc.boolean(),
  experts: fc.boolean(),
  text: fc.string({ unit: "binary" }),
  info: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2, noUnicodeString: false })),
}).map(({ dialog, reward, logs, prompt, versions, experts, text, info }) => {
  const count = logs?.length ?? 3;
  return rowOf(dialog, {
    // JSON has no -0, and a reward of -0 is one of 0.
    reward: reward + 0,
    responseIds: Int32Array.from({ length: count }, (_, i) => i * 7 - 1),
    logProbs: logs === null ? null : Float32Array.from(logs),
    promptIds: prompt === null ? null : Int32Array.from(prompt),
    tokenVersions: versions ? new Int32Array(count).fill(-1) : null,
    response: { role: "assistant", content: text.toWellFormed() },
    info: JSON.parse(JSON.stringify(info)),
    ...(experts
      ? { routedExperts: { start: 1, tokens: 1, perToken: 2, data: Int32Array.of(5, 6) } }
      : {}),
  });
});

Deno.test("a buffer that was saved holds the same rows bit for bit, the newest where it is smaller", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "buffer.jsonl");
    await fc.assert(
      fc.asyncProperty(
        fc.array(anyRow, { maxLength: 12 }),
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 12 }),
        async (drawn, capacity, later) => {
          const rows = drawn.map((row, i) => ({ ...row, dialog: i }));
          const buffer = new ReplayBuffer({ capacity });
          buffer.extend(rows);
          await buffer.save(path);
          const restored = new ReplayBuffer({ capacity: later });
          await restored.restore(path);
          assert.equal(restored.added, rows.length);
          const kept = rows.slice(-capacity).slice(-later);
          assert.deepEqual(rowsOf(restored), kept);
          // It goes on in the same order.
          restored.extend([rowOf(1000)]);
          const next = [...kept, rowOf(1000)].slice(-later);
          assert.deepEqual(rowsOf(restored), next);
        },
      ),
      { numRuns: 60 },
    );
  });
});

Deno.test("a file of rows that was cut or changed is refused and nothing is taken of it", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "buffer.jsonl");
    const buffer = new ReplayBuffer({ capacity: 10 });
    buffer.extend(Array.from({ length: 4 }, (_, i) => rowOf(i)));
    await buffer.save(path);
    const whole = await Deno.readFile(path);
    for (let length = 0; length < whole.length - 1; length += 41) {
      await Deno.writeFile(path, whole.subarray(0, length));
      const empty = new ReplayBuffer({ capacity: 10 });
      await assert.rejects(empty.restore(path), ValidationError);
      assert.equal(empty.length, 0);
    }
    for (let at = 0; at < whole.length; at += 53) {
      const bytes = whole.slice();
      bytes[at]! ^= 0x15;
      await Deno.writeFile(path, bytes);
      const empty = new ReplayBuffer({ capacity: 10 });
      await empty.restore(path).catch((error) => {
        if (!(error instanceof SGLangError)) throw error;
        assert.equal(empty.length, 0);
      });
    }
    await assert.rejects(buffer.restore(path), StateError);
  });
});

Deno.test("at every moment the state of a collector and what its buffer holds fit together", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer(),
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 1, max: 6 }),
      fc.integer({ min: 0, max: 400 }),
      fc.boolean(),
      async (seed, groupSize, perBatch, moment, hasPostproc) => {
        const groups = 12;
        const random = seeded(seed);
        const pass = async () => {
          for (let i = Math.floor(random() * 8); i > 0; i--) await Promise.resolve();
        };
        const options = (buffer: ReplayBuffer): LLMCollectorOptions<null> => ({
          dialogTurnsPerBatch: perBatch,
          totalDialogs: groups * groupSize,
          groupSize,
          replayBuffer: buffer,
          ...(hasPostproc
            ? {
              postproc: async (batch: RolloutBatch) => {
                await pass();
                return batch;
              },
            }
            : {}),
        });
        const start = (buffer: ReplayBuffer) =>
          new LLMCollector(
            new EnvironmentPool(() => countingEnvironment(2), { size: 4 }),
            { policy: fakePolicy(pass), ...options(buffer) },
          );
        const first = new ReplayBuffer({ capacity: 1000 });
        const killed = start(first);
        killed.start();
        for (let i = 0; i < moment; i++) await Promise.resolve();
        const state = JSON.parse(JSON.stringify(killed.state()));
        const held = first.length === 0 ? [] : first.sample(first.length);
        await killed.shutdown();
        const second = new ReplayBuffer({ capacity: 1000 });
        second.extend(held);
        await using collector = start(second);
        collector.restore(state);
        collector.start();
        await collector.finished();
        const members = rowsOf(second).map(({ group, member, turn }) =>
          `${group}/${member}/${turn}`
        );
        assert.equal(new Set(members).size, members.length, "twice");
        assert.equal(members.length, groups * groupSize * 2, "lost");
      },
    ),
    { numRuns: 150 },
  );
});

Deno.test("a batch whose postproc fails is given to it again, and counts as not given out until then", async () => {
  let fails = 2;
  await using collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 2 }),
    {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 4,
      totalDialogs: 4,
      groupSize: 2,
      postproc: (batch, { signal }) => {
        assert.equal(signal.aborted, false);
        if (fails-- > 0) throw new Error("the reference is away");
        return batch;
      },
    },
  );
  for (let i = 0; i < 2; i++) {
    await assert.rejects(collector.rollout(), /the reference is away/);
    assert.equal(collector.state().settled.below, 0);
  }
  const batch = await collector.rollout();
  assert.deepEqual(batch!.rows.map(({ dialog }) => dialog), [0, 1, 2, 3]);
  assert.equal(collector.state().settled.below, 2);
  assert.equal(await collector.rollout(), null);
});

Deno.test("a shutdown ends a postproc that waits, and its batch can be drained", async () => {
  const collector = new LLMCollector(
    new EnvironmentPool(() => countingEnvironment(1), { size: 2 }),
    {
      policy: fakePolicy(),
      dialogTurnsPerBatch: 2,
      postproc: (_, { signal }) =>
        new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(signal.reason), { once: true })
        ),
    },
  );
  const waiting = collector.rollout();
  const refused = assert.rejects(waiting, StateError);
  for (let i = 0; i < 200; i++) await Promise.resolve();
  await collector.shutdown();
  await refused;
  assert.deepEqual(collector.drain()!.rows.map(({ dialog }) => dialog), [0, 1]);
});
