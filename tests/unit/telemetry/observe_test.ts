import assert from "node:assert/strict";
import {
  beginObserved,
  type Facts,
  observe,
  observed,
  propagationHeaders,
  tell,
} from "../../../src/internal/observe.ts";
import { openTraining } from "./_training.ts";

function recording() {
  const seen: string[] = [];
  const observer = observe({
    begin({ name, facts }) {
      seen.push(`begin ${name}`);
      return {
        within: (work) => (seen.push("within"), work()),
        end: (error) => seen.push(`end ${name} ${JSON.stringify(facts)} ${error ?? ""}`.trim()),
      };
    },
    told: ({ name }) => seen.push(`told ${name}`),
  });
  return { seen, [Symbol.dispose]: () => observer[Symbol.dispose]() };
}

Deno.test("who looks sees each operation begin and end, with what became known", async () => {
  using recorded = recording();
  const result = await observed("sync", {}, { servers: 2 }, (facts) => {
    facts.version = "7";
    return Promise.resolve("done");
  });
  assert.equal(result, "done");
  assert.deepEqual(recorded.seen, [
    "begin sync",
    "within",
    'end sync {"servers":2,"version":"7"}',
  ]);
});

Deno.test("a failure is told and thrown on", async () => {
  using recorded = recording();
  const failure = observed("turn", undefined, {}, () => Promise.reject(new Error("no")));
  await assert.rejects(failure, /no/);
  assert.equal(recorded.seen.at(-1), "end turn {} Error: no");
});

Deno.test("while nobody looks nothing is told, and work runs as it is", async () => {
  let facts: Facts | undefined;
  assert.equal(
    await observed("turn", undefined, {}, (given) => (facts = given, Promise.resolve(3))),
    3,
  );
  assert.deepEqual(facts, {});
  tell({ name: "row", subject: {}, value: 1 });
  beginObserved({ name: "group", subject: undefined, facts: {} }).end();
  using recorded = recording();
  assert.deepEqual(recorded.seen, []);
});

Deno.test("several observers see the same, and one that has left sees nothing", async () => {
  using first = recording();
  {
    using second = recording();
    await observed("batch", undefined, {}, () => Promise.resolve());
    assert.deepEqual(first.seen, second.seen);
  }
  await observed("batch", undefined, {}, () => Promise.resolve());
  assert.equal(first.seen.length, 6);
});

Deno.test("an observer that throws changes nothing for the run and for the others", async () => {
  const fails = () => {
    throw new Error("the display fell");
  };
  using _first = observe({ begin: fails, told: fails, headers: fails });
  using _second = observe({ begin: () => ({ end: fails }) });
  using recorded = recording();
  assert.equal(await observed("sync", {}, {}, () => Promise.resolve(7)), 7);
  tell({ name: "row", subject: {}, value: 1 });
  assert.deepEqual(propagationHeaders(), {});
  assert.deepEqual(recorded.seen, ["begin sync", "within", "end sync {}", "told row"]);
});

Deno.test("what a sync did is told as its report tells it", async () => {
  await using training = await openTraining();
  const syncs: Facts[] = [];
  using _ = observe({
    begin: ({ name, facts }) => ({
      within: (work) => work(),
      end: () => void (name === "sync" && syncs.push(facts)),
    }),
    told() {},
  });
  const report = await training.sender.updateWeights(training.weights, { version: "step-3" });
  assert.equal(syncs.length, 1);
  const { version, syncId, transport, sizeBytes, tensors, pausedMs, skipped } = syncs[0]!;
  assert.deepEqual({ version, syncId, transport, sizeBytes, tensors, pausedMs, skipped }, {
    version: "step-3",
    syncId: report.syncId,
    transport: report.transport,
    sizeBytes: report.sizeBytes,
    tensors: report.tensors,
    pausedMs: report.pausedMs,
    skipped: 0,
  });
  assert.equal(syncs[0]!["stepMs.pause"], report.phasesMs.pause);
});
