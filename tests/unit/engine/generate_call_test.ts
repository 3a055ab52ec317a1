/** A call of any number of prompts: made as their turn comes, answered in their order. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Generation } from "../../../src/client/types.ts";
import { PartialResultError } from "../../../src/errors.ts";
import { GenerateCall } from "../../../src/engine/generate_call.ts";
import type { GeneratePlan, PlannedRequest } from "../../../src/engine/generate_plan.ts";
import { Semaphore } from "../../../src/internal/semaphore.ts";

class Refused extends Error {}
class Broken extends Error {}

const sample = (row: number) => ({ id: String(row) }) as Generation;

/** A plan that tells which prompts were made. */
function planOf(total: number, made: number[]): GeneratePlan {
  const request = (row: number): PlannedRequest => {
    made.push(row);
    return { request: { text: "x", rid: String(row) }, body: {} };
  };
  const rids = new Set(Array.from({ length: total }, (_, row) => String(row)));
  return { total, n: 1, adapter: undefined, rids, sample: undefined, request };
}

/** Sends with at most `limit` at once; what becomes of a prompt is told by `fate`. */
function callOf(
  total: number,
  limit: number,
  fate: (row: number) => Promise<void> | void,
) {
  const made: number[] = [];
  const seen = { answered: 0, mostAhead: 0 };
  const gate = new Semaphore(limit);
  const call: GenerateCall = new GenerateCall({
    plan: planOf(total, made),
    begin: ({ request: { rid } }) => {
      seen.mostAhead = Math.max(seen.mostAhead, made.length - seen.answered);
      const permit = gate.acquire(call.signal);
      const samples = (async () => {
        using _ = await permit;
        try {
          await fate(Number(rid));
          return [sample(Number(rid))];
        } finally {
          seen.answered++;
        }
      })();
      return { samples, entered: permit.then(() => {}, () => {}) };
    },
    dropped: ({ request: { rid } }) => [{ ...sample(Number(rid)), text: "dropped" }],
    isOfOnePrompt: (error) => error instanceof Refused,
    onProgress: undefined,
  });
  return { call, made, seen };
}

Deno.test("whatever is refused, samples come in order and refusals by row; none is made early", async () => {
  const limits = fc.integer({ min: 1, max: 5 });
  const fates = fc.array(fc.record({ refuses: fc.boolean(), turns: fc.nat(9) }), { minLength: 1 });
  await fc.assert(fc.asyncProperty(fates, limits, async (fates, limit) => {
    const { call, seen } = callOf(fates.length, limit, async (row) => {
      for (let i = 0; i < fates[row]!.turns; i++) await Promise.resolve();
      if (fates[row]!.refuses) throw new Refused(`row ${row}`);
    });
    const rows = [...fates.keys()];
    const good = rows.filter((row) => !fates[row]!.refuses);
    const bad = rows.filter((row) => fates[row]!.refuses);
    const result = await call.run(async () => {}).catch((error) => error);
    if (bad.length === 0) assert.deepEqual(result, good.map(sample));
    else if (good.length === 0) assert.equal(result.message, "row 0");
    else {
      assert.ok(result instanceof PartialResultError);
      assert.deepEqual(result.partial, good.map(sample));
      assert.deepEqual(result.rows, good);
      assert.deepEqual(result.failures.map(({ row }) => row), bad);
    }
    // Those in flight, and the next one.
    assert.ok(seen.mostAhead <= limit + 1, `${seen.mostAhead} of ${limit}`);
  }));
});

Deno.test("an error that is not of one prompt ends the call; the rest is never made", async () => {
  const { call, made } = callOf(100_000, 3, (row) => {
    if (row === 5) throw new Broken("gone");
  });
  await assert.rejects(call.run(async () => {}), Broken);
  assert.ok(made.length < 20, `${made.length} made`);
  assert.equal(call.left, 0);
});

Deno.test("what is aborted before its turn becomes an empty sample, by id or all", async () => {
  const held = Promise.withResolvers<void>();
  const { call, made } = callOf(6, 1, () => held.promise);
  const run = call.run(async () => {});
  assert.deepEqual(made, [0]);
  call.drop(new Set(["3", "unknown"]));
  held.resolve();
  const texts = (await run).map(({ text }) => text);
  assert.deepEqual(texts, [undefined, undefined, undefined, "dropped", undefined, undefined]);
  const all = callOf(4, 1, () => {});
  all.call.drop("all");
  const dropped = await all.call.run(async () => {});
  assert.ok(dropped.every(({ text }) => text === "dropped"));
});
