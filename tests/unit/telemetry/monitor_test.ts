import assert from "node:assert/strict";
import fc from "fast-check";
import { ValidationError } from "../../../src/errors.ts";
import { Curve } from "../../../src/telemetry/curve.ts";
import { Histogram } from "../../../src/telemetry/histogram.ts";
import { Monitor, prometheusText } from "../../../src/telemetry/mod.ts";
import { openTraining, watchedOf } from "./_training.ts";
import { parsePrometheus } from "./_prometheus.ts";

Deno.test("a run's metrics add up to what it did", async () => {
  await using training = await openTraining();
  const { engine, collector, sender, servers } = training;
  using monitor = new Monitor({ engine, collector, sender });
  await training.step();
  await training.step();
  monitor.record("mismatch_k3", 0.25);
  const metrics = parsePrometheus(await monitor.metrics());
  const { stats } = collector;
  assert.equal(metrics.get('sglang_rl_rows_total{outcome="yielded"}'), stats.rowsYielded);
  assert.equal(metrics.get('sglang_rl_tokens_total{kind="sampled"}'), stats.tokens);
  assert.equal(metrics.get('sglang_rl_requests_total{outcome="answered"}'), stats.turns);
  assert.equal(metrics.get("sglang_rl_request_seconds_count"), stats.turns);
  assert.equal(metrics.get('sglang_rl_syncs_total{outcome="done"}'), 2);
  assert.equal(metrics.get("sglang_rl_sync_seconds_count"), 2);
  assert.equal(metrics.get('sglang_rl_sync_step_seconds_count{step="pause"}'), 2);
  assert.equal(metrics.get("sglang_rl_batch_staleness_versions_count"), 2);
  assert.equal(metrics.get("sglang_rl_policy_version"), 2);
  assert.equal(metrics.get('sglang_rl_recorded{name="mismatch_k3"}'), 0.25);
  assert.equal(metrics.get("sglang_rl_dialog_reward_count"), stats.dialogsCompleted);
  for (const { url } of servers) {
    assert.equal(metrics.get(`sglang_rl_server_up{server="${url}"}`), 1);
  }
  assert.deepEqual(Object.keys(monitor.curves()).sort(), [
    "mismatch_k3",
    "reward",
    "rows_per_s",
    "staleness",
    "tokens_per_s",
  ]);
  assert.equal(monitor.curves().reward!.length, 2);
  assert.equal(monitor.sync?.state, "done");
  assert.equal(monitor.sync?.version, "2");
  assert.ok(monitor.events.some(({ text }) => text.startsWith("sync of version 2 done")));
});

Deno.test("a server that does not answer is told as down, and the others are told", async () => {
  await using training = await openTraining();
  using monitor = new Monitor({ engine: training.engine });
  const [gone, there] = training.servers;
  await gone![Symbol.asyncDispose]();
  const metrics = parsePrometheus(await monitor.metrics());
  assert.equal(metrics.get(`sglang_rl_server_up{server="${gone!.url}"}`), 0);
  assert.equal(metrics.get(`sglang_rl_server_up{server="${there!.url}"}`), 1);
  assert.equal(metrics.has(`sglang_rl_server_kv_usage_ratio{server="${gone!.url}"}`), false);
});

Deno.test("what another engine of the process does is not counted", async () => {
  await using ours = await openTraining();
  await using others = await openTraining();
  using monitor = new Monitor(watchedOf(ours));
  await others.step();
  assert.equal(monitor.counts.requests, 0);
  assert.equal(monitor.counts.syncs, 0);
  assert.equal(monitor.counts.rows, 0);
});

Deno.test("a failed sync is counted, told and shown", async () => {
  await using training = await openTraining();
  using monitor = new Monitor(watchedOf(training));
  for (const server of training.servers) await server[Symbol.asyncDispose]();
  await assert.rejects(training.sender.updateWeights(training.weights));
  const metrics = parsePrometheus(await monitor.metrics());
  assert.equal(metrics.get('sglang_rl_syncs_total{outcome="failed"}'), 1);
  assert.equal(monitor.sync?.state, "failed");
  assert.ok(monitor.events.some(({ level, text }) => level === "error" && text.startsWith("sync")));
  assert.equal(metrics.get('sglang_rl_syncs_total{outcome="done"}'), 0);
});

Deno.test("a sync that never gets its turn is counted as failed and told, and the one that runs is shown on", async () => {
  await using training = await openTraining();
  using monitor = new Monitor(watchedOf(training));
  const { sender, weights } = training;
  const stop = new AbortController();
  const running = sender.updateWeights(weights, {
    onProgress: () => stop.abort(new Error("not needed any more")),
  });
  const waiting = sender.updateWeights(weights, { signal: stop.signal });
  const early = sender.updateWeights(weights, { signal: AbortSignal.abort() });
  await Promise.all([
    assert.rejects(early, { code: "aborted" }),
    assert.rejects(waiting, { code: "aborted" }),
  ]);
  assert.equal(monitor.sync?.state, "running");
  const failed = 'sglang_rl_syncs_total{outcome="failed"}';
  assert.equal(parsePrometheus(await monitor.metrics()).get(failed), 2);
  assert.equal(
    monitor.events.filter(({ level, kind, text }) =>
      level === "error" && kind === "sync" && text.startsWith("A sync did not begin: ")
    ).length,
    2,
  );
  await running;
  assert.equal(monitor.sync?.state, "done");
  await assert.rejects(sender.updateWeights({} as never));
  const metrics = parsePrometheus(await monitor.metrics());
  assert.equal(metrics.get(failed), 3);
  assert.equal(metrics.get('sglang_rl_syncs_total{outcome="done"}'), 1);
  assert.equal(metrics.get("sglang_rl_sync_seconds_count"), 1);
});

Deno.test("a stream that is given up while it waits for its turn is a request that failed", async () => {
  await using training = await openTraining();
  using monitor = new Monitor(watchedOf(training));
  await assert.rejects(
    Array.fromAsync(training.engine.stream("Hi", { signal: AbortSignal.abort() })),
    { code: "aborted" },
  );
  assert.deepEqual([monitor.counts.requests, monitor.counts.requestsFailed], [1, 1]);
});

Deno.test("names of recorded values are checked, and there are at most 100", () => {
  using monitor = new Monitor({});
  for (const name of ["", "A", "1a", "a b", "a".repeat(65), "a\n"]) {
    assert.throws(() => monitor.record(name, 1), ValidationError);
  }
  assert.throws(() => monitor.record("a", "1" as never), ValidationError);
  for (let i = 0; i < 100; i++) monitor.record(`n${i}`, i);
  assert.throws(() => monitor.record("one_more", 1), /100 names/);
  monitor.record("n5", 6);
  assert.equal(monitor.recorded.get("n5"), 6);
});

Deno.test("events are bounded: the last 500 stay, each of at most 500 characters", () => {
  using monitor = new Monitor({});
  for (let i = 0; i < 1200; i++) monitor.note(`${i} ${"x".repeat(10_000)}`);
  assert.equal(monitor.events.length, 500);
  assert.equal(monitor.events[0]!.number, 701);
  assert.ok(monitor.events.every(({ text }) => text.length <= 500));
});

Deno.test("a curve of any length keeps at most 1,000 points in order, with its first", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 20_000 }), (count) => {
      const curve = new Curve();
      for (let i = 0; i < count; i++) curve.add(i, i * 2);
      const { points } = curve;
      assert.ok(points.length <= 1000);
      assert.ok(points.length >= Math.min(count, 400));
      assert.deepEqual(points[0], { at: 0, value: 0 });
      assert.ok(
        points.every(({ at, value }, i) => value === at * 2 && (i === 0 || at > points[i - 1]!.at)),
      );
    }),
    { numRuns: 30 },
  );
});

Deno.test("a histogram counts every number once, in each bucket up to which it reaches", () => {
  const ends = [1, 2, 5];
  fc.assert(fc.property(fc.array(fc.double({ noNaN: true, noDefaultInfinity: true })), (values) => {
    const histogram = new Histogram(ends);
    for (const value of values) histogram.add(value);
    histogram.add(NaN);
    assert.equal(histogram.count, values.length);
    assert.deepEqual(
      histogram.cumulative,
      ends.map((end) => values.filter((value) => value <= end).length),
    );
  }));
});

Deno.test("any label and help text gives lines that read back", () => {
  fc.assert(fc.property(fc.string(), fc.string(), fc.double(), (label, help, value) => {
    const text = prometheusText([
      { type: "gauge", name: "a_b", help, samples: [[{ server: label }, value]] },
    ]);
    const read = parsePrometheus(text);
    assert.equal(read.size, 1);
    assert.deepEqual([...read.values()], [value === 0 ? 0 : value]);
    assert.deepEqual([...read.labels.values()], [{ server: label }]);
  }));
});
