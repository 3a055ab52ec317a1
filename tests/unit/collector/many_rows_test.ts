import assert from "node:assert/strict";
import fc from "fast-check";
import { jsonLines, ReplayBuffer, RolloutBatch } from "../../../src/collector/mod.ts";
import type { RolloutRow } from "../../../src/collector/mod.ts";
import { WholeAssembler } from "../../../src/collector/assembler.ts";
import { rowOf } from "../../_support/rollout_rows.ts";
import { seeded } from "../../_support/seeded.ts";

Deno.test("a replay buffer draws with as many random numbers as rows, however full it is", () => {
  let asked = 0;
  const next = seeded(3);
  const buffer = new ReplayBuffer({ capacity: 50_000, random: () => (asked++, next()) });
  buffer.extend(Array.from({ length: 70_000 }, (_, i) => rowOf(i)));
  for (const count of [1, 32, 5_000, 50_000]) {
    asked = 0;
    const drawn = buffer.sample(count);
    assert.equal(asked, count);
    assert.equal(new Set(drawn).size, count);
    assert.ok(drawn.every(({ dialog }) => dialog >= 20_000));
  }
});

Deno.test("whatever matches, a sample has different rows that match, each equally likely", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 5 }),
      fc.integer(),
      (length, every, seed) => {
        const buffer = new ReplayBuffer({ capacity: length, random: seeded(seed) });
        buffer.extend(Array.from({ length }, (_, i) => rowOf(i)));
        const where = ({ dialog }: RolloutRow) => dialog % every === 0;
        const matching = Math.ceil(length / every);
        const drawn = buffer.sample(matching, { where }).map(({ dialog }) => dialog);
        assert.deepEqual(
          drawn.toSorted((a, b) => a - b),
          Array.from({ length: matching }, (_, i) => i * every),
        );
        assert.throws(() => buffer.sample(matching + 1, { where }), /that match/);
      },
    ),
  );
  const buffer = new ReplayBuffer({ capacity: 6, random: seeded(1) });
  buffer.extend(Array.from({ length: 6 }, (_, i) => rowOf(i)));
  const counts = new Array<number>(6).fill(0);
  for (let i = 0; i < 6_000; i++) for (const { dialog } of buffer.sample(2)) counts[dialog]!++;
  assert.ok(counts.every((count) => count > 1_800 && count < 2_200), counts.join());
});

Deno.test("a dialog of more turns than a call has arguments is given out", () => {
  const length = 300_000;
  const row = rowOf(0);
  const assembler = new WholeAssembler({ count: 1, onlyLast: false });
  assembler.addDialogs([Array.from({ length }, () => row)]);
  assert.equal(assembler.take(() => true, false)?.rows.length, length);
});

/** A log-probability as `JSON.parse` has it: no -0, `null` for a probability of 0, NaN as a text. */
function inJson(logProb: number): number | string | null {
  if (Number.isNaN(logProb)) return "NaN";
  return logProb === -Infinity ? null : logProb + 0;
}

Deno.test("a line has the same numbers as the row, whatever they are", () => {
  const int = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  fc.assert(
    fc.property(
      fc.array(int),
      fc.array(fc.float()),
      fc.array(fc.integer({ min: -1, max: 3 })),
      fc.string({ unit: "binary" }),
      (ids, logProbs, versions, text) => {
        const row = rowOf(1, {
          promptIds: Int32Array.from(ids),
          logProbs: Float32Array.from(logProbs),
          tokenVersions: Int32Array.from(versions),
          response: { role: "assistant", content: text },
        });
        const versionNames = ["0", "12", 'a"b'];
        const [line] = jsonLines(new RolloutBatch({ rows: [row], shape: [1], versionNames }));
        const record = JSON.parse(line!);
        assert.deepEqual(record.prompt_ids, ids);
        assert.deepEqual(
          record.log_probs,
          logProbs.map(inJson),
        );
        const names = [0, 12, 'a"b'];
        assert.deepEqual(record.token_versions, versions.map((index) => names[index] ?? null));
        assert.equal(record.response.content, JSON.parse(JSON.stringify(text)));
      },
    ),
    { examples: [[[], [NaN, Infinity, -Infinity, -0], [], ""]] },
  );
});
