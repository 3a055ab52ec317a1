import assert from "node:assert/strict";
import fc from "fast-check";
import { SGLangClient } from "../../../src/client/mod.ts";
import { actionsOf, openDashboard } from "../../../src/dashboard/mod.ts";
import { pageFiles } from "../../../src/dashboard/page/mod.ts";
import { AsyncSGLang } from "../../../src/engine/mod.ts";
import { StateError, ValidationError } from "../../../src/errors.ts";
import { Monitor } from "../../../src/telemetry/mod.ts";
import { FakeClock, turns } from "../../_support/clock.ts";
import { startTiny } from "../embedded/_support.ts";
import { openRows } from "./_rows_page.ts";

const key = "a-key-of-the-dashboard";

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
  assert.equal(await post("/api/do/pause", { authorization: key }), 401);
  assert.deepEqual(done, []);
  assert.equal(await post("/api/do/pause", { authorization: `bearer ${key}` }), 200);
  assert.equal(await post("/api/do/resume", { authorization: `BEARER  ${key}` }), 409);
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

Deno.test("a key that a header cannot carry is refused before the page is there", async () => {
  const unsendable = fc.tuple(
    fc.string({ minLength: 8, unit: "binary" }),
    fc.constantFrom(" ", "\n", "\r", "\t", "\0", "\x7f", "\u00e9", "к", "🔑"),
    fc.string({ minLength: 8, unit: "binary" }),
  );
  await fc.assert(fc.asyncProperty(unsendable, async (parts) => {
    await assert.rejects(openDashboard({ key: parts.join("") }), ValidationError);
  }));
});

Deno.test("a name of another site that leads here is refused, and so is what is no name", async () => {
  await using page = await openDashboard();
  const { port } = new URL(page.url);
  const hosts = [[`evil.example:${port}`, 403], ["a b", 400], ["[", 400], ["a:b:c", 400]] as const;
  for (const [host, status] of hosts) {
    using connection = await Deno.connect({ port: Number(port) });
    const request = `GET /api/about HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    await connection.write(new TextEncoder().encode(request));
    const text = await new Response(connection.readable).text();
    assert.match(text, new RegExp(`^HTTP/1.1 ${status}`), host);
  }
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

Deno.test("a value that diverged is told as what it is", async () => {
  using monitor = new Monitor({});
  await using page = await openDashboard({ monitor });
  for (const [name, value] of [["loss", NaN], ["k3", Infinity], ["kl", 0.5]] as const) {
    monitor.record(name, value);
  }
  const { recorded } = await (await fetch(new URL("/api/state", page.url))).json();
  assert.deepEqual(recorded, { loss: "NaN", k3: "Infinity", kl: 0.5 });
});

Deno.test("a server that hangs does not slow the state of the others, and is told as down in its time", async () => {
  const clock = new FakeClock();
  const load = { running: 1, waiting: 0, tokensPerSecond: 5, tokenUsage: 0, cacheHitRate: 0 };
  let hanging = 0;
  const worker = (url: string, answer: () => Promise<typeof load>) => ({
    url,
    state: "serving",
    client: { load: answer },
  });
  let fail = (_error: Error) => {};
  const engine = {
    workers: [
      worker("http://a", () => Promise.resolve({ ...load, running: Math.floor(clock.now()) })),
      worker("http://b", () => {
        hanging++;
        return new Promise((_resolve, reject) => fail = reject);
      }),
    ],
  };
  using monitor = new Monitor({ engine });
  await using page = await openDashboard({ monitor, clock, everyMs: 1000 });
  const answer = await fetch(new URL("/api/live", page.url));
  const states = await statesOf(answer);
  for (let second = 0; second < 5; second++) {
    // The first state waits a quarter of a second for all; later ones not for who owes an answer.
    await clock.advance(second === 0 ? 250 : second === 1 ? 750 : 1000);
    const { servers } = await states.next();
    assert.deepEqual([servers[0].answers, servers[0].running], [true, second * 1000]);
    assert.equal(servers[1].answers, null);
  }
  assert.equal(hanging, 1, "who owes an answer is not asked again");
  fail(new Error("too late"));
  await turns(1);
  // It is asked once more, and the state waits a quarter of a second for it.
  await clock.advance(1250);
  assert.equal((await states.next()).servers[1].answers, false);
  await states.end();
});

/** The states that a page sends. */
async function statesOf(answer: Response) {
  const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, "retry: 1000\n\n");
  return {
    async next() {
      for (let text = "";;) {
        text += (await reader.read()).value;
        const data = /^data: (.*)$/m.exec(text);
        if (data !== null && text.endsWith("\n\n")) return JSON.parse(data[1]!);
      }
    },
    end: () => reader.cancel(),
  };
}

Deno.test("a pause that another program made is shown, by servers that can tell and by those that cannot", async () => {
  await using newest = await startTiny({ version: "0.5.23" });
  await using older = await startTiny({ version: "0.5.16", healthTimeoutMs: 1 });
  await using engine = await AsyncSGLang.connect([newest.url, older.url]);
  using monitor = new Monitor({ engine });
  await using page = await openDashboard({ monitor, everyMs: 1 });
  const readiness = async () => {
    const { servers } = await (await fetch(new URL("/api/state", page.url))).json();
    return servers.map(({ isReady }: { isReady: boolean | null }) => isReady);
  };
  const until = async (wanted: boolean) => {
    while (!(await readiness()).every((one: boolean | null) => one === wanted));
  };
  await until(true);
  const others = [newest, older].map(({ url }) => new SGLangClient({ url }));
  for (const other of others) await other.pause("in_place");
  await until(false);
  assert.match(
    await monitor.metrics(),
    new RegExp(`sglang_rl_server_ready\\{server="${newest.url}"\\} 0`),
  );
  for (const other of others) await other.resume();
  await until(true);
  for (const other of others) await other.close();
});

Deno.test("a server that its supervisor keeps out is shown with its state, and comes back by a button", async () => {
  const calls: string[] = [];
  const supervisor = {
    servers: [
      {
        url: "http://a",
        state: "healthy",
        reason: "it answers",
        isDrained: false,
        weightVersion: "1",
      },
      {
        url: "http://b",
        state: "stale",
        reason: "it is drained",
        isDrained: true,
        weightVersion: "1",
      },
      {
        url: "http://c",
        state: "restarting",
        reason: "it ended",
        isDrained: false,
        weightVersion: null,
      },
    ],
    drain: (url: string) => (calls.push(`drain ${url}`), Promise.resolve()),
    undrain: (url: string) => void calls.push(`undrain ${url}`),
  };
  const engine = {
    workers: [{ url: "http://a", state: "serving" }],
    supervisor,
    pause: () => Promise.resolve(),
    resume: () => Promise.resolve(),
    removeWorker: () => Promise.reject(new Error("a supervisor would bring it back")),
  };
  using monitor = new Monitor({ engine });
  await using page = await openDashboard({ monitor, actions: actionsOf(engine), key });
  const state = await (await fetch(new URL("/api/state", page.url))).json();
  assert.deepEqual(
    state.servers.map((one: Record<string, unknown>) => [one.url, one.state, one.answers]),
    [["http://a", "serving", null], ["http://b", "drained", null], [
      "http://c",
      "restarting",
      null,
    ]],
  );
  const { actions, explained } = await (await fetch(new URL("/api/about", page.url))).json();
  assert.deepEqual(actions, ["pause", "resume", "drain", "undrain"]);
  assert.match(explained, /this program/);
  for (const what of ["drain?server=http://a", "undrain?server=http://b"]) {
    const answer = await fetch(new URL(`/api/do/${what}`, page.url), {
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
    });
    assert.equal(answer.status, 200);
    await answer.body?.cancel();
  }
  assert.deepEqual(calls, ["drain http://a", "undrain http://b"]);
});
