import assert from "node:assert/strict";
import { AbortedError } from "../../../src/errors.ts";
import { stateDict } from "../../../src/weights/source/mod.ts";
import { EmbeddedServer } from "../../../src/embedded/mod.ts";
import { AsyncSGLang, type WorkerEvent, workerTransitions } from "../../../src/engine/mod.ts";
import { type NamedWeight, safetensors, weightIterator } from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { readWeights } from "./_weights.ts";
import { healthyServer, modelInfo, standIn } from "../../_support/http_stand_in.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";
import { answers, checkpoint, GREEDY, PROMPT, TestFleet } from "./_fleet.ts";

Deno.test("a server that comes back with old weights gets no requests until a sync reached it", async () => {
  for (const version of ["0.5.16", "0.5.23"] as const) {
    await using fleet = await TestFleet.start(2, { version });
    const { engine, sender } = fleet;
    await sender.updateWeights(stateDict(await readWeights(await checkpoint("b"))));
    await fleet.restart(1, version);
    // Requests until one of them meets the old weights.
    await until(() => {
      void engine.generate(PROMPT, GREEDY).catch(() => {});
      return fleet.states[1] === "quarantined";
    });
    assert.deepEqual([...(await answers(engine)).keys()], [`${fleet.servers[0]!.url} 1`]);
    assert.match(engine.workers[1]!.reason, /"default", older than the fleet's "1"/);
    assert.equal(fleet.logger.warnings.filter((line) => line.includes("no requests")).length, 1);
    // Nothing to bring it: the weights were in memory and may have changed.
    await assert.rejects(engine.refitWorker(fleet.servers[1]!.url), /may have changed since/);
    await sender.updateWeights(stateDict(await readWeights(await checkpoint("c"))));
    assert.deepEqual(fleet.states, ["serving", "serving"]);
    const both = await answers(engine);
    assert.deepEqual(new Set(both.keys()), new Set(fleet.servers.map(({ url }) => `${url} 2`)));
    assert.equal(new Set(both.values()).size, 1);
  }
});

Deno.test("weights from files are brought to it alone, also without a sync", async () => {
  await using fleet = await TestFleet.start(2);
  const { engine, sender } = fleet;
  await sender.updateWeights(safetensors(await checkpoint("b")), { version: "step-1" });
  const [expected] = (await answers(engine)).values();
  await fleet.restart(0);
  const events: WorkerEvent[] = [];
  using _listening = engine.onWorkerEvent((event) => events.push(event));
  await engine.refreshWorkers();
  const { url } = fleet.servers[0]!;
  assert.deepEqual(events.map((event) => [event.url, event.from, event.to]), [
    [url, "serving", "quarantined"],
    [url, "quarantined", "serving"],
  ]);
  const both = await answers(engine);
  assert.equal(both.get(`${url} step-1`), expected);
  assert.equal(both.size, 2);
});

Deno.test("with quarantine off it serves on and is told of once", async () => {
  await using fleet = await TestFleet.start(2, { quarantine: false });
  await fleet.sender.updateWeights(safetensors(await checkpoint("b")));
  await fleet.restart(1);
  for (let i = 0; i < 3; i++) await fleet.engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "serving"]);
  assert.equal(fleet.logger.warnings.filter((line) => line.includes("serves on")).length, 1);
});

Deno.test("a server that a sync was without is out until the next one", async () => {
  await using fleet = await TestFleet.start(2, { whenUnreachable: "skip" });
  const { engine, sender } = fleet;
  const weights = async (letter: "b" | "c") =>
    stateDict(await readWeights(await checkpoint(letter)));
  await fleet.kill(1);
  const report = await sender.updateWeights(await weights("b"));
  assert.deepEqual(report.skipped, [fleet.servers[1]!.url]);
  assert.deepEqual(fleet.states, ["serving", "quarantined"]);
  assert.match(engine.workers[1]!.reason, /it missed the sync to "1"/);
  await fleet.restart(1);
  await engine.refreshWorkers();
  assert.deepEqual(fleet.states, ["serving", "quarantined"]);
  await sender.updateWeights(await weights("c"));
  assert.deepEqual(fleet.states, ["serving", "serving"]);
});

Deno.test("an added server is synced before it serves, a removed one ends its requests first", async () => {
  await using fleet = await TestFleet.start(1);
  const { engine, sender } = fleet;
  await sender.updateWeights(safetensors(await checkpoint("b")));
  const added = await fleet.startServer();
  fleet.servers.push(added);
  const worker = await engine.addWorker(`${added.url}/`);
  assert.deepEqual([worker.state, worker.weightVersion], ["serving", "1"]);
  assert.equal(new Set((await answers(engine)).values()).size, 1);

  // A long request there, then its removal.
  const slow = engine.workers[1]!.client.generate({
    inputIds: [1, 2, 3],
    samplingParams: { maxNewTokens: 60, ignoreEos: true },
  });
  await until(() => added.stats.running > 0);
  await engine.removeWorker(added.url);
  assert.equal((await slow).finishReason.type, "length");
  assert.deepEqual(engine.workers.map(({ url }) => url), [fleet.servers[0]!.url]);
  await assert.rejects(engine.removeWorker(added.url), /is no server of this engine/);
  await assert.rejects(engine.removeWorker(fleet.servers[0]!.url), /the last server/);
});

Deno.test("a server with weights of its own waits for a sync where there is nothing to bring it", async () => {
  await using fleet = await TestFleet.start(1);
  const { engine, sender } = fleet;
  await sender.updateWeights(stateDict(await readWeights(await checkpoint("b"))));
  const added = await fleet.startServer();
  fleet.servers.push(added);
  const worker = await engine.addWorker(added.url);
  assert.equal(worker.state, "quarantined");
  await sender.updateWeights(stateDict(await readWeights(await checkpoint("c"))));
  assert.equal(worker.state, "serving");
  assert.equal(new Set((await answers(engine)).values()).size, 1);
});

Deno.test("a sync waits for the only server while that is brought up to date alone", async () => {
  await using fleet = await TestFleet.start(1);
  const { engine, sender } = fleet;
  const { url } = fleet.servers[0]!;
  await sender.updateWeights(safetensors(await checkpoint("b")));
  const weights = Object.entries(await readWeights(await checkpoint("b")));
  const open = Promise.withResolvers<void>();
  const slow = weightIterator(async function* () {
    await open.promise;
    for (const [name, weight] of weights) yield { name, ...weight } as NamedWeight;
  });
  const refitted = engine.refitWorker(url, { source: slow });
  await until(() => fleet.states[0] === "quarantined");
  const next = safetensors(await checkpoint("c"));
  // One whose caller gives up does not wait on.
  const stop = new AbortController();
  const left = sender.updateWeights(next, { signal: stop.signal });
  stop.abort();
  await assert.rejects(left, AbortedError);
  const synced = sender.updateWeights(next);
  open.resolve();
  await refitted;
  assert.equal((await synced).version, engine.workers[0]!.weightVersion);
  assert.deepEqual(fleet.states, ["serving"]);
});

Deno.test("before the first sync a server joins when it says what the others say", async () => {
  await using fleet = await TestFleet.start(1);
  const same = await fleet.startServer();
  const other = await fleet.startServer();
  fleet.servers.push(same, other);
  await fetch(`${other.url}/update_weight_version`, {
    method: "POST",
    body: JSON.stringify({ new_version: "base", abort_all_requests: false }),
  }).then((response) => response.text());
  assert.equal((await fleet.engine.addWorker(same.url)).state, "serving");
  const worker = await fleet.engine.addWorker(other.url);
  assert.deepEqual([worker.state, worker.reason], [
    "quarantined",
    'its weights are "base", the others\' "default"',
  ]);
});

Deno.test("where nobody may serve, a request waits, and ends with what is the matter", async () => {
  await using fleet = await TestFleet.start(1, { servingTimeoutMs: 5_000, membershipMs: 0 });
  const { engine, clock, sender } = fleet;
  const { url } = fleet.servers[0]!;
  await engine.quarantineWorker(url, "a test says so");
  const call = assert.rejects(engine.generate(PROMPT, GREEDY), {
    code: "state",
    message: /No server may serve: .* is quarantined: a test says so/,
  });
  await until(() => engine.requests.inFlight > 0);
  await clock.advance(5_000);
  await call;
  const waiting = engine.generate(PROMPT, { ...GREEDY, n: 1 });
  await sender.updateWeights(safetensors(await checkpoint("b")));
  assert.equal([await waiting].flat()[0]?.weightVersion, "1");
});

Deno.test("the last server that serves dies while another waits for a sync: a request waits for that", async () => {
  for (const how of ["generate", "stream"] as const) {
    await using fleet = await TestFleet.start(2, { membershipMs: 0, whenUnreachable: "skip" });
    const { engine, clock, sender } = fleet;
    await sender.updateWeights(stateDict(await readWeights(await checkpoint("b"))));
    await fleet.restart(1);
    await engine.refreshWorkers();
    assert.deepEqual(fleet.states, ["serving", "quarantined"]);
    await fleet.kill(0);
    const request = async () => {
      if (how === "generate") return (await engine.generate(PROMPT, GREEDY)).flat()[0];
      let last;
      for await (const { final } of engine.stream([1, 2, 3], GREEDY)) last = final;
      return last;
    };
    const waiting = request();
    const isAgain = () => fleet.logger.warnings.some((line) => line.includes("connection refused"));
    await until(isAgain);
    await sender.updateWeights(stateDict(await readWeights(await checkpoint("c"))));
    await clock.pass(waiting, { ms: 100, isStuck: () => clock.pending > 0 });
    const sample = await waiting;
    assert.equal(sample?.weightVersion, "2");
    assert.equal(sample?.server, fleet.servers[1]!.url);
  }
});

Deno.test("the table of states is kept: no other transition is possible", async () => {
  const { Member } = await import("../../../src/engine/member.ts");
  const moves = {
    serving: (member) => member.admit("test"),
    quarantined: (member) => member.quarantine("test"),
    draining: (member) => member.drain("test"),
    gone: (member) => member.leave("test"),
  } as const satisfies Record<string, (member: InstanceType<typeof Member>) => void>;
  const ways = {
    joining: [],
    serving: ["serving"],
    quarantined: ["quarantined"],
    draining: ["draining"],
    gone: ["gone"],
  } as const;
  for (const [from, way] of Object.entries(ways)) {
    for (const [to, move] of Object.entries(moves)) {
      const events: WorkerEvent[] = [];
      const member = new Member(
        { url: "http://one", weightVersion: "1", identity: "" } as never,
        (event) => events.push(event),
      );
      for (const step of way) moves[step](member);
      assert.equal(member.state, from);
      events.length = 0;
      const isAllowed = workerTransitions[from as keyof typeof workerTransitions].includes(
        to as never,
      );
      try {
        move(member);
      } catch (error) {
        assert.ok(!isAllowed, `${from} -> ${to}: ${error}`);
      }
      // What is not allowed is refused, or changes nothing.
      assert.equal(member.state, isAllowed ? to : from, `${from} -> ${to}`);
      assert.equal(events.length, isAllowed ? 1 : 0);
    }
  }
});

Deno.test("a server that the router is just taking in is neither taken out again nor forgotten", async () => {
  // The router is asked again after short pauses.
  using _clock = FakeClock.install({ skipUpToMs: 1_000 });
  await using first = await EmbeddedServer.start({ model: await checkpoint("a") });
  await using second = await EmbeddedServer.start({ model: await checkpoint("a") });
  const [one, two] = [first.url, second.url];
  const listed = new Map([[one, true], [two, true]]);
  const calls: string[] = [];
  let isSlow = false;
  // The real one lists a server at once, and asks it whether it is healthy later.
  await using router = standIn({
    "GET /health": () => new Response("OK"),
    "GET /workers": () =>
      Response.json({
        workers: [...listed].map(([url, is_healthy]) => ({ id: url, url, is_healthy })),
      }),
    "POST /workers": ({ body }) => {
      const url = body!.url as string;
      calls.push(`add ${url}`);
      listed.set(url, !isSlow);
      return Response.json({ worker_id: url }, { status: 202 });
    },
    ...Object.fromEntries([one, two].map((url) => [
      `DELETE /workers/${encodeURIComponent(url)}`,
      () => {
        calls.push(`remove ${url}`);
        listed.delete(url);
        return new Response(null, { status: 202 });
      },
    ])),
  });
  await using engine = await AsyncSGLang.connect(router.url, { membershipMs: 0 });
  await using sender = new SGLangWeightSyncScheme({ engine, transport: "gloo" }).createSender();
  await sender.initAllWorkersGroup();
  await sender.updateWeights(stateDict(await readWeights(await checkpoint("b"))));
  await engine.quarantineWorker(two, "a test says so");
  assert.deepEqual(calls, [`remove ${two}`]);
  isSlow = true;
  const synced = sender.updateWeights(stateDict(await readWeights(await checkpoint("c"))));
  await until(() => calls.length === 2);
  // The list has it now, and it does not serve yet.
  const compared = engine.refreshWorkers();
  await turns(100);
  listed.set(two, true);
  await Promise.all([synced, compared]);
  await engine.refreshWorkers();
  assert.deepEqual(calls, [`remove ${two}`, `add ${two}`]);
  assert.deepEqual(engine.workers.map(({ state }) => state), ["serving", "serving"]);
  // One that is taken out while the router takes it in is out.
  await engine.quarantineWorker(two, "again");
  listed.delete(two);
  const again = sender.updateWeights(stateDict(await readWeights(await checkpoint("b"))));
  await until(() => calls.filter((call) => call.startsWith("add")).length === 2);
  const out = engine.quarantineWorker(two, "while it is taken in");
  listed.set(two, true);
  await Promise.all([again, out]);
  assert.equal(engine.workers.find(({ url }) => url === two)!.state, "quarantined");
  assert.deepEqual([...listed.keys()], [one]);
});

Deno.test("servers that come and go behind the router come and go here, and are never served unsynced", async () => {
  const told = { weightVersion: "default" };
  const server = () =>
    standIn({
      ...healthyServer,
      "GET /model_info": () => Response.json({ ...modelInfo, weight_version: told.weightVersion }),
    });
  await using one = server();
  await using two = server();
  await using other = standIn({
    ...healthyServer,
    "GET /model_info": () => Response.json({ ...modelInfo, weight_version: "other" }),
  });
  const ids = new Map<string, string>([["1", one.url]]);
  let added = 1;
  await using router = standIn({
    "GET /health": () => new Response("OK"),
    "GET /workers": () =>
      Response.json({
        workers: [...ids].map(([id, url]) => ({ id, url, is_healthy: true })),
      }),
    "POST /workers": ({ body }) => {
      const url = body!.url as string;
      // The real one answers for a server that it has already with its id.
      const id = [...ids].find(([, known]) => known === url)?.[0] ?? String(++added);
      ids.set(id, url);
      return Response.json({ worker_id: id }, { status: 202 });
    },
    ...Object.fromEntries(Array.from({ length: 9 }, (_, id) => [
      `DELETE /workers/${id}`,
      () => {
        ids.delete(String(id));
        return new Response(null, { status: 202 });
      },
    ])),
  });
  await using engine = await AsyncSGLang.connect(router.url, { vocabSize: 100, membershipMs: 0 });
  ids.set("7", two.url);
  ids.set("8", other.url);
  await engine.refreshWorkers();
  assert.deepEqual(
    engine.workers.map(({ url, state }) => [url, state]).sort(),
    [[one.url, "serving"], [two.url, "serving"], [other.url, "quarantined"]].sort(),
  );
  // The one with other weights is out of the router too.
  assert.deepEqual([...ids.values()].sort(), [one.url, two.url].sort());
  ids.delete("7");
  await engine.refreshWorkers();
  assert.deepEqual(
    engine.workers.map(({ url }) => url).sort(),
    [one.url, other.url].sort(),
  );
  await engine.tellVersion("other");
  assert.deepEqual(
    engine.workers.map(({ url, state }) => [url, state]).sort(),
    [[one.url, "quarantined"], [other.url, "serving"]].sort(),
  );
  assert.deepEqual([...ids.values()], [other.url]);
});
