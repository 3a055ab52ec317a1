import assert from "node:assert/strict";
import { openDashboard, plotSvg } from "../../../src/dashboard/mod.ts";
import { pageFiles } from "../../../src/dashboard/page/mod.ts";
import { StateError, ValidationError } from "../../../src/errors.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { Monitor } from "../../../src/telemetry/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { rowLine, writeRows } from "./_rows.ts";

const key = "a-key-of-the-dashboard";

async function openRows(groups: number, more: readonly string[] = []) {
  const folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, groups, more);
  const page = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows.jsonl" },
  });
  return {
    async get(path: string) {
      const answer = await fetch(new URL(path, page.url));
      return { status: answer.status, body: await answer.json() };
    },
    page,
    async [Symbol.asyncDispose]() {
      await page[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

Deno.test("the page has at most 200 kB, asks no other host and has a strict policy", async () => {
  const texts = Object.values(pageFiles).map(({ text }) => text);
  const bytes = texts.reduce((sum, text) => sum + new TextEncoder().encode(text).length, 0);
  assert.ok(bytes <= 200_000, `${bytes} bytes`);
  for (const text of texts) {
    assert.doesNotMatch(text.replaceAll("http://www.w3.org/2000/svg", ""), /https?:\/\//);
    assert.doesNotMatch(text, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(/);
  }
  await using page = await openDashboard();
  for (const path of Object.keys(pageFiles)) {
    const answer = await fetch(new URL(path, page.url));
    assert.equal(answer.status, 200);
    assert.match(
      answer.headers.get("content-security-policy")!,
      /^default-src 'none'; script-src 'self'/,
    );
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    await answer.body?.cancel();
  }
});

Deno.test("rows are listed by windows, filtered by every field, and searched", async () => {
  await using rows = await openRows(100, [
    rowLine({ dialog: 400, group: 100, reward: -7, finish_reason: "length", stale: true }),
    rowLine({
      dialog: 401,
      group: 101,
      reward: 0.7,
      response: { role: "assistant", content: "no" },
    }),
  ]);
  const total = async (query: string) => (await rows.get(`/api/rows?${query}`)).body.total;
  assert.equal(await total(""), 402);
  assert.equal(await total("group=7"), 4);
  assert.equal(await total("dialog=9"), 1);
  assert.equal(await total("min=3"), 100);
  assert.equal(await total("max=-1"), 1);
  assert.equal(await total("min=0.7&max=0.7"), 1);
  assert.equal(await total("finish=length"), 1);
  assert.equal(await total("stale=yes"), 1);
  assert.equal(await total("stale=no"), 401);
  assert.equal(await total("q=ANSWER%20399"), 1);
  assert.equal(await total("q=say"), 402);
  const { body } = await rows.get("/api/rows?from=398&count=2");
  assert.deepEqual(body.rows.map(({ row }: { row: number }) => row), [398, 399]);
  const about = (await rows.get("/api/about")).body.file;
  assert.deepEqual([about.rows, about.dialogs, about.groups], [402, 402, 102]);
});

Deno.test("a row comes with its numbers, its advantage in its group and the turns of its dialog", async () => {
  await using rows = await openRows(1, [
    rowLine({ dialog: 9, group: 9, turn: 0, done: false }),
    rowLine({ dialog: 9, group: 9, turn: 1, parent: 0 }),
    rowLine({ dialog: 9, group: 9, turn: 2, parent: 0, branch: 1 }),
  ]);
  const { body } = await rows.get("/api/row?row=0");
  assert.deepEqual(body.responseIds, [10, 11]);
  assert.deepEqual(body.tokenVersions, [4, 5]);
  assert.ok(Math.abs(body.advantage + 1.5 / Math.sqrt(5 / 3)) < 1e-4);
  const branch = (await rows.get("/api/row?row=6")).body;
  assert.deepEqual(
    branch.siblings.map((one: Record<string, unknown>) => [one.turn, one.parent, one.branch]),
    [[0, null, 0], [1, 0, 0], [2, 0, 1]],
  );
  const group = (await rows.get("/api/group?group=0")).body;
  assert.deepEqual(group.map(({ reward }: { reward: number }) => reward), [0, 1, 2, 3]);
});

Deno.test("a selection is exported as JSON lines", async () => {
  await using rows = await openRows(5);
  const answer = await fetch(new URL("/api/export?group=2", rows.page.url));
  const lines = (await answer.text()).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ dialog }) => dialog), [8, 9, 10, 11]);
  assert.match(answer.headers.get("content-disposition")!, /attachment/);
  await using folder = await temporaryFolder();
  const path = `${folder.path}/selection.jsonl`;
  await Deno.writeTextFile(path, lines.map((line) => JSON.stringify(line) + "\n").join(""));
  await using again = await readRollout(path);
  assert.equal(again.length, 4);
});

Deno.test("wrong questions are told, and nothing else of the machine", async () => {
  await using rows = await openRows(1);
  for (
    const path of [
      "/api/row?row=99",
      "/api/row?row=x",
      "/api/row",
      "/api/rows?from=-1",
      "/api/rows?min=a",
    ]
  ) {
    assert.equal((await rows.get(path)).status, 400, path);
  }
  assert.equal((await rows.get(`/api/rows?q=${"x".repeat(201)}`)).status, 400);
  for (const path of ["/etc/passwd", "/..%2f..%2fetc/passwd", "/api/", "/page/mod.ts"]) {
    assert.equal((await rows.get(path)).status, 404, path);
  }
});

Deno.test("buttons need the key, and nobody else's page can ask", async () => {
  using monitor = new Monitor({});
  const done: string[] = [];
  const actions = {
    pause: () => (done.push("pause"), Promise.resolve()),
    drain: (server: string) => (done.push(server), Promise.resolve()),
    resume: () => Promise.reject(new StateError("It is not paused")),
  };
  await using page = await openDashboard({ monitor, actions, key });
  const post = async (path: string, headers: Record<string, string> = {}) => {
    const answer = await fetch(new URL(path, page.url), { method: "POST", headers });
    await answer.body?.cancel();
    return answer.status;
  };
  const authorization = `Bearer ${key}`;
  assert.equal(await post("/api/do/pause"), 401);
  assert.equal(await post("/api/do/pause", { authorization: `Bearer ${key}x` }), 401);
  assert.equal(await post("/api/do/pause", { authorization: "Bearer " }), 401);
  assert.deepEqual(done, []);
  assert.equal(await post("/api/do/pause", { authorization }), 200);
  assert.equal(await post("/api/do/drain?server=http%3A%2F%2Fa", { authorization }), 200);
  assert.deepEqual(done, ["pause", "http://a"]);
  assert.equal(await post("/api/do/resume", { authorization }), 409);
  assert.equal(await post("/api/do/toString", { authorization }), 404);
  assert.equal(await post("/api/do/pause", { authorization, origin: "http://evil.example" }), 403);
  assert.ok(monitor.events.some(({ text }) => text === "pause by the page"));
  const get = await fetch(new URL("/api/do/pause", page.url), { headers: { authorization } });
  assert.equal(get.status, 405);
  await get.body?.cancel();
});

Deno.test("without a key there are no buttons, and beyond this machine no page", async () => {
  await using page = await openDashboard({ actions: { pause: () => Promise.resolve() } });
  const answer = await fetch(new URL("/api/do/pause", page.url), { method: "POST" });
  assert.equal(answer.status, 403);
  await answer.body?.cancel();
  await assert.rejects(openDashboard({ hostname: "0.0.0.0" }), ValidationError);
  await assert.rejects(openDashboard({ hostname: "0.0.0.0", key: "short" }), ValidationError);
  await assert.rejects(openDashboard({ key: "short" }), ValidationError);
});

Deno.test("a name of another site that leads here is refused", async () => {
  await using page = await openDashboard();
  const { port } = new URL(page.url);
  using connection = await Deno.connect({ port: Number(port) });
  const request =
    `GET /api/about HTTP/1.1\r\nHost: evil.example:${port}\r\nConnection: close\r\n\r\n`;
  await connection.write(new TextEncoder().encode(request));
  const text = await new Response(connection.readable).text();
  assert.match(text, /^HTTP\/1.1 403/);
});

Deno.test("the state goes to all who look, once each interval, and the servers are asked only then", async () => {
  const clock = new FakeClock();
  let asked = 0;
  const engine = {
    workers: [{
      url: "http://a",
      state: "serving",
      client: {
        load: () => {
          asked++;
          const load = {
            running: 1,
            waiting: 0,
            tokensPerSecond: 5,
            tokenUsage: 0,
            cacheHitRate: 0,
          };
          return Promise.resolve(load);
        },
      },
    }],
  };
  using monitor = new Monitor({ engine });
  await using page = await openDashboard({ monitor, clock, everyMs: 1000 });
  assert.equal(asked, 0);
  const stop = new AbortController();
  const answer = await fetch(new URL("/api/live", page.url), { signal: stop.signal });
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  const state = async () => {
    for (let text = "";;) {
      text += (await reader.read()).value;
      const data = /^data: (.*)$/m.exec(text);
      if (data !== null && text.endsWith("\n\n")) return JSON.parse(data[1]!);
    }
  };
  assert.equal((await state()).servers[0].running, 1);
  assert.equal(asked, 1);
  monitor.note("something");
  await clock.advance(1000);
  assert.equal((await state()).events.at(-1).text, "something");
  assert.equal(asked, 2);
  stop.abort();
  await reader.read().catch(() => {});
  while (page.readers > 0) await new Promise((resolve) => setImmediate(resolve));
  await clock.advance(60_000);
  assert.equal(asked, 2, "nobody looks, nobody is asked");
});

Deno.test("a plot is an SVG with its curves, whatever the values and names are", () => {
  const svg = plotSvg([
    { name: '<b>&"', points: [[0, 1], [1, NaN], [2, Infinity], [3, 2]] },
    { name: "flat", points: [[0, 5]] },
    { name: "empty", points: [] },
  ], { title: "a < b" });
  assert.ok(svg.includes("&lt;b>&amp;&quot;") && svg.includes("a &lt; b"));
  assert.doesNotMatch(svg, /NaN|Infinity/);
  assert.equal([...svg.matchAll(/<polyline/g)].length, 3);
});

Deno.test("an exported row has everything that the file had, also the experts", async () => {
  const bytes = new Uint8Array(Int32Array.of(1, 2, 3, 4).buffer);
  const written = rowLine({
    log_probs: [-0.5, null],
    token_versions: [null, "step-1"],
    routed_experts: { start: 0, tokens: 2, per_token: 2, data: bytes.toBase64() },
  });
  await using rows = await openRows(0, [written]);
  const answer = await fetch(new URL("/api/export", rows.page.url));
  assert.deepEqual(JSON.parse(await answer.text()), JSON.parse(written));
});
