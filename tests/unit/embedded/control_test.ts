import assert from "node:assert/strict";
import type { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { type Answer, get, greedy, post, type Sample, startTiny } from "./_support.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";

/** A request that runs until it is aborted or 1500 tokens are made. */
function long(server: EmbeddedServer, rid = "long"): Promise<Answer<Sample>> {
  return post(server, "/generate", {
    input_ids: [1, 2, 3],
    rid,
    return_logprob: true,
    sampling_params: { max_new_tokens: 1500, temperature: 1, ignore_eos: true },
  });
}

const pause = (server: EmbeddedServer, mode: string) => post(server, "/pause_generation", { mode });
const resume = (server: EmbeddedServer) => post(server, "/continue_generation", {});

Deno.test("pause abort: running requests come back with what they made", async () => {
  await using server = await startTiny();
  const running = long(server);
  await until(() => server.stats.generatedTokens > 5);
  const { body } = await pause(server, "abort");
  assert.deepEqual(body, { message: "Generation paused successfully.", status: "ok" });
  const { status, body: sample } = await running;
  assert.equal(status, 200);
  assert.equal(sample.meta_info.finish_reason!.type, "abort");
  assert.ok(sample.output_ids.length > 5 && sample.output_ids.length < 1500);
  assert.equal(sample.meta_info.output_token_logprobs.length, sample.output_ids.length);
});

for (const mode of ["retract", "in_place"]) {
  Deno.test(`pause ${mode}: running requests go on after the pause`, async () => {
    await using server = await startTiny();
    const running = post(server, "/generate", {
      input_ids: [1, 2, 3],
      sampling_params: { max_new_tokens: 300, temperature: 0, ignore_eos: true },
    });
    await until(() => server.stats.generatedTokens > 5);
    await pause(server, mode);
    const { generatedTokens } = server.stats;
    const waiting = greedy(server, [7, 8]);
    await turns(20);
    assert.equal(server.stats.generatedTokens, generatedTokens);
    await resume(server);
    const { body } = await running;
    assert.equal((await waiting).length, 12);
    assert.equal(body.meta_info.num_retractions, mode === "retract" ? 1 : 0);
    // Greedy ids do not depend on the pause.
    assert.deepEqual(body.output_ids, await greedy(server, [1, 2, 3], 300));
  });
}

Deno.test("abort ends one request by its id and leaves the others alone", async () => {
  await using server = await startTiny();
  const [first, second] = [long(server, "first"), long(server, "second")];
  await until(() => server.stats.running === 2);
  assert.equal((await post(server, "/abort_request", { rid: "unknown" })).status, 200);
  await post(server, "/abort_request", { rid: "first" });
  assert.equal((await first).body.meta_info.finish_reason!.type, "abort");
  assert.equal(server.stats.running, 1);
  await post(server, "/abort_request", { abort_all: true });
  assert.equal((await second).body.meta_info.finish_reason!.message, "Aborted");
});

Deno.test("abort of a queued request tells no token counts of its prompt", async () => {
  await using server = await startTiny({ maxRunningRequests: 1 });
  const running = long(server, "running");
  const queued = long(server, "queued");
  await until(() => server.stats.waiting === 1);
  await post(server, "/abort_request", { rid: "queued" });
  const { meta_info: info } = (await queued).body;
  assert.equal(info.finish_reason!.message, "Abort in waiting queue");
  assert.equal(info.prompt_tokens, undefined);
  await post(server, "/abort_request", { abort_all: true });
  await running;
});

Deno.test("a client that leaves its stream aborts the request", async () => {
  await using server = await startTiny();
  const response = await fetch(`${server.url}/generate`, {
    method: "POST",
    body: JSON.stringify({
      text: "a",
      stream: true,
      sampling_params: { max_new_tokens: 2000, ignore_eos: true },
    }),
  });
  const reader = response.body!.getReader();
  await reader.read();
  await reader.cancel();
  await until(() => server.stats.running === 0);
  assert.ok(server.stats.generatedTokens < 2000);
});

Deno.test("flush_cache succeeds when idle, fails when busy, and waits when told", async () => {
  await using server = await startTiny();
  assert.equal((await get(server, "/flush_cache")).status, 200);
  const running = long(server);
  await until(() => server.stats.running === 1);
  const refused = await post<string>(server, "/flush_cache", {});
  assert.deepEqual(refused, { status: 400, body: "Flush cache failed.\n" });
  const waited = await post<string>(server, "/flush_cache?timeout=0.02", {});
  assert.deepEqual(waited, { status: 400, body: "Timed out waiting for idle state." });
  const patient = post(server, "/flush_cache?timeout=5", {});
  await post(server, "/abort_request", { abort_all: true });
  assert.equal((await patient).status, 200);
  await running;
});

Deno.test("a paused server answers /health with 503 after its time, and /ping at once", async () => {
  using clock = FakeClock.install({ skipUpToMs: 10 });
  await using server = await startTiny({ healthTimeoutMs: 1000 });
  assert.equal((await get(server, "/health")).status, 200);
  await pause(server, "in_place");
  assert.equal((await get(server, "/health")).status, 503);
  assert.ok(clock.now() >= 1000);
  assert.equal((await get(server, "/ping")).status, 200);
});

Deno.test("0.5.23 tells by /ready that it is paused; 0.5.16 has no /ready", async () => {
  await using newest = await startTiny({ version: "0.5.23" });
  assert.equal((await get(newest, "/ready")).status, 200);
  await pause(newest, "retract");
  assert.equal((await get(newest, "/ready")).status, 503);
  await using old = await startTiny();
  assert.equal((await get(old, "/ready")).status, 404);
});

Deno.test("memory calls answer null and change nothing, as SGLang does without a memory saver", async () => {
  await using server = await startTiny();
  const before = await greedy(server);
  for (const call of ["release", "resume"]) {
    const answer = await post(server, `/${call}_memory_occupation`, {});
    assert.deepEqual(answer, { status: 200, body: null });
  }
  assert.deepEqual(await greedy(server), before);
});

Deno.test("loads count what runs and what waits", async () => {
  await using server = await startTiny({ maxRunningRequests: 2 });
  const requests = ["a", "b", "c"].map((rid) => long(server, rid));
  await until(() => server.stats.waiting === 1);
  const { body } = await get<{ loads: Record<string, number>[] }>(server, "/v1/loads");
  assert.equal(body.loads[0]!.num_running_reqs, 2);
  assert.equal(body.loads[0]!.num_waiting_reqs, 1);
  await post(server, "/abort_request", { abort_all: true });
  await Promise.all(requests);
});

Deno.test("server_info says that this is a test double", async () => {
  await using server = await startTiny();
  const { body } = await get(server, "/server_info");
  assert.match(String(body.test_double), /test double/);
  assert.equal(body.version, "0.5.16");
  assert.equal(body.tp_size, 1);
});

Deno.test("a second close does nothing, and requests in work end as aborted", async () => {
  const server = await startTiny();
  const running = long(server);
  await until(() => server.stats.running === 1);
  await Promise.all([server.close(), server.close()]);
  assert.equal((await running).body.meta_info.finish_reason!.type, "abort");
});

Deno.test("a paused server refuses nothing that it would look at only when a request may run", async () => {
  await using server = await startTiny();
  await post(server, "/pause_generation", { mode: "retract" });
  let isAnswered = false;
  const refused = post(server, "/generate", {
    input_ids: [1],
    sampling_params: { max_new_tokens: 0, logit_bias: { "2147483647": 0 } },
  }).finally(() => isAnswered = true);
  // What is wrong with its form is said at once.
  assert.equal((await post(server, "/generate", {})).status, 400);
  assert.equal((await post(server, "/generate", { input_ids: [] })).status, 400);
  assert.equal(isAnswered, false);
  await post(server, "/continue_generation", {});
  const { status, body } = await refused;
  assert.equal(status, 400);
  assert.match(JSON.stringify(body), /logit_bias must has keys/);
});
