import assert from "node:assert/strict";
import { TimeoutError } from "../../../src/errors.ts";
import { getOpenPort } from "../../../src/process/mod.ts";
import type { SGLangRouter } from "../../../src/router/mod.ts";
import { leftOf } from "../../_support/processes.ts";
import { seenKeys } from "../../_support/seen_keys.ts";
import { sharedServers, startRealRouter, startRealServer } from "../../_support/real.ts";

async function generate(url: string, maxNewTokens: number): Promise<number[]> {
  const response = await fetch(`${url}/generate`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      text: "Once upon a time",
      sampling_params: { max_new_tokens: maxNewTokens, ignore_eos: true },
    }),
  });
  assert.equal(response.status, 200, await response.clone().text());
  return (await response.json()).output_ids;
}

async function urlsOf(router: SGLangRouter): Promise<string[]> {
  return (await router.workers()).map((worker) => worker.url).sort();
}

Deno.test("a router is handed out when it serves all its servers, and gone when it is stopped", async () => {
  const servers = sharedServers();
  await using router = await startRealRouter({ workers: servers });
  assert.equal(await router.isReady(), true);
  const workers = await router.workers();
  assert.deepEqual(workers.map((worker) => worker.url).sort(), [...servers].sort());
  assert.ok(workers.every((worker) => worker.isHealthy));
  assert.equal((await generate(router.url, 3)).length, 3);
  await router.stop();
  assert.deepEqual(await leftOf([router.pid!], { withinMs: 0 }), []);
});

Deno.test("a router's key is asked for, and no list of processes shows it", async () => {
  const apiKey = "router-key-that-nobody-may-see";
  await using router = await startRealRouter({ workers: sharedServers(), apiKey });
  assert.deepEqual(await seenKeys({ apiKey }), []);
  const refused = await fetch(`${router.url}/workers`);
  await refused.body?.cancel();
  assert.equal(refused.status, 401);
  assert.equal((await router.workers()).length, 2);
});

Deno.test("two routers on one host do not clash over their metrics ports", async () => {
  const workers = sharedServers();
  await using first = await startRealRouter({ workers });
  await using second = await startRealRouter({ workers });
  assert.notEqual(first.url, second.url);
  assert.deepEqual(await urlsOf(first), await urlsOf(second));
});

Deno.test("a router that misses a server names it at the deadline, and is gone", async () => {
  const [first] = sharedServers() as [string];
  const dead = `http://127.0.0.1:${getOpenPort()}`;
  await assert.rejects(
    startRealRouter({ workers: [first, dead], readyTimeoutMs: 8000 }),
    (error) => {
      assert.ok(error instanceof TimeoutError);
      assert.equal(error.lastHeard, `no answer from ${dead}`);
      return true;
    },
  );
});

Deno.test("servers are added and removed, and a dead address is given up and forgotten", async (t) => {
  const [first, second] = sharedServers() as [string, string];
  await using router = await startRealRouter({ workers: [] });
  assert.equal(await router.isReady(), false);

  await t.step("an added server gets requests when the call returns", async () => {
    const worker = await router.addWorker(first + "/");
    assert.deepEqual([worker.url, worker.isHealthy], [first, true]);
    assert.equal((await generate(router.url, 2)).length, 2);
  });
  await t.step("adding it again changes nothing", async () => {
    await router.addWorker(first);
    assert.deepEqual(await urlsOf(router), [first]);
  });
  await t.step("an address where nobody is fails in time and does not stay", async () => {
    const dead = `http://127.0.0.1:${getOpenPort()}`;
    await assert.rejects(router.addWorker(dead, { timeoutMs: 2000 }), TimeoutError);
    assert.deepEqual(await urlsOf(router), [first]);
  });
  await t.step("a removed server is gone when the call returns", async () => {
    await router.addWorker(second);
    await router.removeWorker(first);
    assert.deepEqual(await urlsOf(router), [second]);
    assert.equal((await generate(router.url, 2)).length, 2);
    await router.removeWorker(first);
  });
});

Deno.test("a server killed under load costs no request behind the router, and its end is told", async () => {
  const [shared] = sharedServers() as [string];
  await using server = await startRealServer();
  await using router = await startRealRouter({
    workers: [shared, server.url],
    policy: "round_robin",
    healthCheckIntervalMs: 1000,
    healthFailureThreshold: 1,
  });
  const requests = Array.from({ length: 12 }, () => generate(router.url, 200));
  await untilBusy(server.url);
  Deno.kill(server.pid, "SIGKILL");

  const exit = await server.exited;
  assert.equal(exit.signal, "SIGKILL");
  assert.equal(exit.requested, false);
  assert.ok(exit.logFile, "the log of a server that died is kept");
  await Deno.remove(exit.logFile);
  const answers = await Promise.all(requests);
  assert.deepEqual(answers.map((ids) => ids.length), Array(12).fill(200));

  const health = async () =>
    (await router.workers()).find((worker) => worker.url === server.url)?.isHealthy;
  const end = performance.now() + 60_000;
  while (await health() && performance.now() < end) await new Promise((r) => setTimeout(r, 500));
  assert.equal(await health(), false);
});

async function untilBusy(url: string): Promise<void> {
  const end = performance.now() + 30_000;
  while (performance.now() < end) {
    const response = await fetch(`${url}/get_load`);
    const loads: { num_reqs: number }[] = await response.json();
    if (loads[0]!.num_reqs > 0) return;
  }
  assert.fail(`${url} got no request`);
}
