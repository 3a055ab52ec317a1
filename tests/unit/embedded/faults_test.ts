import assert from "node:assert/strict";
import { greedy, post, startTiny } from "./_support.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";

const request = { input_ids: [1, 2], sampling_params: { max_new_tokens: 4, temperature: 0 } };

Deno.test("unavailable: so many calls answer 503, the next works", async () => {
  await using server = await startTiny({ faults: { unavailable: 2 } });
  const statuses = [];
  for (let i = 0; i < 3; i++) statuses.push((await post(server, "/generate", request)).status);
  assert.deepEqual(statuses, [503, 503, 200]);
  assert.equal(server.faults.unavailable, 0);
});

for (const stream of [false, true]) {
  Deno.test(`dropConnections: the answer breaks in the middle, streamed ${stream}`, async () => {
    await using server = await startTiny({ faults: { dropConnections: 1 } });
    const response = await fetch(`${server.url}/generate`, {
      method: "POST",
      body: JSON.stringify({ ...request, stream }),
    });
    await assert.rejects(response.text(), TypeError);
    assert.equal((await greedy(server, [1, 2], 4)).length, 4);
  });
}

Deno.test("wrongLogProbCounts: one log-probability is missing", async () => {
  await using server = await startTiny();
  server.setFaults({ wrongLogProbCounts: 1 });
  const body = { ...request, return_logprob: true };
  const counts = [];
  for (let i = 0; i < 2; i++) {
    const sample = (await post(server, "/generate", body)).body;
    counts.push(sample.output_ids.length - sample.meta_info.output_token_logprobs.length);
  }
  assert.deepEqual(counts, [1, 0]);
});

Deno.test("stalled: no token comes until the stall is over", async () => {
  await using server = await startTiny({ faults: { stalled: true } });
  const running = greedy(server);
  await turns(20);
  assert.equal(server.stats.generatedTokens, 0);
  server.setFaults({ stalled: false });
  assert.equal((await running).length, 12);
});

Deno.test("a stalled server closes all the same", async () => {
  const server = await startTiny({ faults: { stalled: true } });
  const running = post(server, "/generate", request);
  await until(() => server.stats.waiting === 1);
  await server.close();
  assert.equal((await running).body.meta_info.finish_reason!.type, "abort");
});

Deno.test("crash: connections break and the port refuses", async () => {
  await using server = await startTiny({ faults: { stalled: true } });
  const running = post(server, "/generate", request);
  const broken = assert.rejects(running, TypeError);
  await until(() => server.stats.waiting === 1);
  server.crash();
  await broken;
  await assert.rejects(post(server, "/generate", request), TypeError);
  assert.equal(server.stats.crashed, true);
});

Deno.test("crashAfterTokens: the server dies in the middle of a request", async () => {
  await using server = await startTiny({ faults: { crashAfterTokens: 20 } });
  assert.equal((await greedy(server)).length, 12);
  await assert.rejects(greedy(server), TypeError);
});

Deno.test("a token id outside the vocabulary kills the server, as it kills the real one", async () => {
  await using server = await startTiny();
  const body = { input_ids: [1, 1024], sampling_params: { max_new_tokens: 1 } };
  await assert.rejects(post(server, "/generate", body), TypeError);
  assert.equal(server.stats.crashed, true);
});

Deno.test("stepLatencyMs and latencyMs make the server slow", async () => {
  await using server = await startTiny({ faults: { latencyMs: 10, stepLatencyMs: 5 } });
  using clock = FakeClock.install({ skipUpToMs: 1000 });
  await greedy(server, [1], 4);
  assert.ok(clock.now() >= 10 + 4 * 5);
});
