/** Where servers of others are found. */
import assert from "node:assert/strict";
import { polling } from "../../../src/fleet/discovery/discovery.ts";
import {
  type DnsResolver,
  type FleetEvent,
  FleetSupervisor,
  listedServers,
  refittedGate,
  type ServerDiscovery,
  serversInDns,
  serversInFile,
  serversInKubernetes,
  serversInSlurm,
} from "../../../src/fleet/mod.ts";
import { FakeClock } from "../../_support/clock.ts";
import { FakeFleet } from "./_fake_fleet.ts";

/** The first lists that a discovery gives; `next` is done between two. */
async function lists(
  discovery: ServerDiscovery,
  nexts: readonly (() => void | Promise<void>)[],
  errors: unknown[] = [],
): Promise<string[][]> {
  const stop = new AbortController();
  const found: string[][] = [];
  const watch = discovery.watch({ signal: stop.signal, onError: (error) => errors.push(error) });
  for await (const urls of watch) {
    found.push([...urls]);
    const next = nexts[found.length - 1];
    if (next === undefined) break;
    await next();
  }
  stop.abort();
  return found;
}

Deno.test("a list is checked and has each address once", async () => {
  assert.deepEqual(await listedServers(["http://a:1/", "http://a:1"]).servers(), ["http://a:1"]);
  await assert.rejects(listedServers(["a:1"]).servers(), /not the address/);
});

Deno.test("a file is read again; what cannot be read changes nothing", async () => {
  const path = await Deno.makeTempFile();
  try {
    const clock = new FakeClock();
    await Deno.writeTextFile(path, "http://a:1  # the first\n\nhttp://b:1/\n");
    const discovery = serversInFile(path, { intervalMs: 1000, lookMs: 1e9, clock });
    const errors: unknown[] = [];
    const tick = async (text: string) => {
      await Deno.writeTextFile(path, text);
      ticking = ticking.then(() => clock.advance(1000));
    };
    let ticking = Promise.resolve();
    const look = lists(discovery, [() => tick("http://b:1\n")], errors);
    // Time goes on until the watch has seen the change; a file may be read for many of its seconds.
    let isDone = false;
    look.then(() => isDone = true, () => isDone = true);
    while (!isDone) {
      await clock.advance(1000);
      await Deno.stat(path);
    }
    assert.deepEqual(await look, [["http://a:1", "http://b:1"], ["http://b:1"]]);
    assert.deepEqual(errors, []);
    // As other systems and editors write it.
    await Deno.writeTextFile(
      path,
      "\ufeff# fleet\r\nhttp://b:1/\r\nHTTP://B:1 # again\r\rhttp://[::1]:2",
    );
    assert.deepEqual(await discovery.servers(), ["http://b:1", "http://[::1]:2"]);
    await Deno.writeTextFile(path, "gpu-1\n");
    await assert.rejects(discovery.servers(), /"gpu-1" is not the address/);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("a server is gone when two looks in a row are without it, and new at once", async () => {
  // A file that is half written, a name server that answers with nothing, a look that fails.
  const answers: (readonly string[] | Error)[] = [
    ["http://a:30000", "http://b:30000"],
    ["http://a:30000", "http://b:300"],
    ["http://a:30000", "http://b:30000", "http://c:30000"],
    [],
    new Error("no answer"),
    ["http://a:30000", "http://c:30000"],
    ["http://a:30000", "http://c:30000"],
  ];
  const clock = new FakeClock();
  const stop = new AbortController();
  const looks = answers.values();
  const discovery = polling("a test", () => {
    const { value, done } = looks.next();
    if (done) stop.abort();
    return value instanceof Error ? Promise.reject(value) : Promise.resolve(value ?? []);
  }, { intervalMs: 1000, clock });
  const told: string[] = [];
  const watching = (async () => {
    for await (const urls of discovery.watch({ signal: stop.signal })) {
      told.push(urls.map((url) => url.replace("http://", "")).toSorted().join(" "));
    }
  })();
  while (!stop.signal.aborted) await clock.advance(1000);
  await watching;
  assert.deepEqual(told, [
    "a:30000 b:30000",
    "a:30000 b:300 b:30000",
    "a:30000 b:300 b:30000 c:30000",
    "a:30000 b:30000 c:30000",
    "a:30000 c:30000",
  ]);
});

Deno.test("DNS: SRV records bring ports, A records take one", async () => {
  const asked: string[] = [];
  // deno-lint-ignore no-explicit-any -- one function for both overloads
  const resolve: any = (name: string, type: string) => {
    asked.push(`${type} ${name}`);
    return Promise.resolve(
      type === "SRV" ? [{ target: "gpu-1.local.", port: 30001 }] : ["10.0.0.1", "10.0.0.2"],
    );
  };
  const srv = serversInDns("_http._tcp.sglang.local", { resolve });
  assert.deepEqual(await srv.servers(), ["http://gpu-1.local:30001"]);
  const a = serversInDns("sglang.local", { resolve, port: 30000 });
  assert.deepEqual(await a.servers(), ["http://10.0.0.1:30000", "http://10.0.0.2:30000"]);
  assert.deepEqual(asked, ["SRV _http._tcp.sglang.local", "A sglang.local"]);
  assert.throws(() => serversInDns("x", { port: 0 }), /port/);
});

Deno.test("DNS: only IPv6, no such service, no such name", async () => {
  const answers: Record<string, unknown> = { AAAA: ["fd00::1"], SRV: [{ target: ".", port: 0 }] };
  // deno-lint-ignore no-explicit-any -- one function for both overloads
  const resolve: any = (name: string, type: string) =>
    name in answers || (type in answers && name === "v6.local")
      ? Promise.resolve(answers[type])
      : Promise.reject(new Deno.errors.NotFound(`no ${type} records of ${name}`));
  const v6 = serversInDns("v6.local", { resolve, port: 30000 });
  assert.deepEqual(await v6.servers(), ["http://[fd00::1]:30000"]);
  assert.deepEqual(await serversInDns("v6.local", { resolve }).servers(), []);
  const none = serversInDns("none.local", { resolve, port: 30000 });
  await assert.rejects(none.servers(), /no A records of none\.local/);
});

Deno.test("Slurm: the first node of each running allocation, with the task's number on the port", async () => {
  const asked: string[] = [];
  const run = (command: string, args: readonly string[]) => {
    asked.push([command, ...args].join(" "));
    if (command === "scontrol") return Promise.resolve("gpu-07\ngpu-08\n");
    return Promise.resolve("0|gpu-01\n1|gpu-[07-08]\nN/A|gpu-02\n3|\n2|(null)\n\n");
  };
  const discovery = serversInSlurm({ jobName: "fleet", user: "me", port: 31000, run });
  assert.deepEqual(await discovery.servers(), [
    "http://gpu-01:31000",
    "http://gpu-07:31001",
    "http://gpu-02:31000",
  ]);
  assert.deepEqual(asked, [
    "squeue --noheader --array --states=RUNNING --format=%K|%N --name=fleet --user=me",
    "scontrol show hostnames gpu-[07-08]",
  ]);
  assert.throws(() => serversInSlurm({}), /jobName or jobId/);
});

interface ApiCall {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly token: string | null;
  readonly method: string;
  readonly body: string;
}

/** A scripted API server; each answer is for the next call. */
function apiServer(answers: ((call: ApiCall) => Response)[]) {
  const calls: ApiCall[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const url = new URL(request.url);
    const call = {
      path: url.pathname,
      query: url.searchParams,
      token: request.headers.get("authorization"),
      method: request.method,
      body: await request.text(),
    };
    calls.push(call);
    return answers.shift()?.(call) ?? new Response("nothing is scripted", { status: 500 });
  });
  return {
    calls,
    url: `http://127.0.0.1:${server.addr.port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

/** An EndpointSlice as a real API server writes it (1.31), but for what is not read. */
function slice(name: string, endpoints: readonly Record<string, unknown>[], resourceVersion = "1") {
  return {
    kind: "EndpointSlice",
    apiVersion: "discovery.k8s.io/v1",
    metadata: {
      name,
      namespace: "rl",
      resourceVersion,
      labels: { "kubernetes.io/service-name": "sglang-servers" },
    },
    addressType: "IPv4",
    endpoints,
    ports: [{ name: "http", protocol: "TCP", port: 30000 }],
  };
}

function endpoint(address: string, conditions: Record<string, boolean> = { ready: true }) {
  return { addresses: [address], conditions, targetRef: { kind: "Pod", name: `pod-${address}` } };
}

const listOf = (items: unknown[]) => () =>
  Response.json({
    kind: "EndpointSliceList",
    apiVersion: "discovery.k8s.io/v1",
    metadata: { resourceVersion: "100" },
    items,
  });

const events = (...lines: unknown[]) => () =>
  new Response(lines.map((line) => `${JSON.stringify(line)}\n`).join(""));

function discover(url: string, more: Record<string, unknown> = {}): ServerDiscovery {
  let calls = 0;
  return serversInKubernetes({
    service: "sglang-servers",
    namespace: "rl",
    apiServer: url,
    token: () => Promise.resolve(`token-${++calls}\n`),
    ...more,
  });
}

Deno.test("Kubernetes: slices are listed, watched from there, and listed again when a watch ends", async () => {
  await using api = apiServer([
    listOf([slice("a", [endpoint("10.0.0.1"), endpoint("10.0.0.2", { ready: false })])]),
    events(
      { type: "BOOKMARK", object: { metadata: { resourceVersion: "101" } } },
      { type: "ADDED", object: slice("b", [endpoint("10.0.0.3")]) },
      { type: "MODIFIED", object: slice("a", [endpoint("10.0.0.1", { terminating: true })]) },
      { type: "DELETED", object: slice("b", []) },
    ),
    listOf([slice("a", [endpoint("10.0.0.9")])]),
    events(),
  ]);
  const none = () => {};
  const found = await lists(discover(api.url), [none, none, none, none]);
  const url = (host: string) => `http://10.0.0.${host}:30000`;
  assert.deepEqual(found, [
    [url("1"), url("2")],
    [url("1"), url("2"), url("3")],
    [url("3")],
    [],
    [url("9")],
  ]);
  const [list, watch] = api.calls;
  assert.equal(list!.path, "/apis/discovery.k8s.io/v1/namespaces/rl/endpointslices");
  assert.equal(list!.query.get("labelSelector"), "kubernetes.io/service-name=sglang-servers");
  assert.equal(watch!.query.get("resourceVersion"), "100");
  assert.equal(watch!.query.get("watch"), "true");
  // Tokens change while a pod runs: each call reads its own.
  assert.deepEqual([list!.token, watch!.token], ["Bearer token-1", "Bearer token-2"]);
});

Deno.test("Kubernetes: an expired watch (410), garbage and refusals are told, and the list is read again", async () => {
  // Pauses pass at once, deadlines do not.
  const clock = new FakeClock({ skipUpToMs: 8_000 });
  const expired = { kind: "Status", code: 410, reason: "Expired", message: "too old" };
  await using api = apiServer([
    listOf([slice("a", [endpoint("10.0.0.1")])]),
    events({ type: "ERROR", object: expired }),
    () => new Response("{oops", { headers: { "content-type": "application/json" } }),
    () => Response.json({ message: "no" }, { status: 403 }),
    listOf([slice("a", [endpoint("10.0.0.2")])]),
    events(),
  ]);
  const errors: unknown[] = [];
  const look = lists(discover(api.url, { clock }), [() => {}], errors);
  assert.deepEqual(await look, [["http://10.0.0.1:30000"], ["http://10.0.0.2:30000"]]);
  const told = errors.map((error) => String(error)).join("\n");
  assert.match(told, /too old/);
  assert.match(told, /403 for endpointslices: the account must be allowed/);
  assert.equal(errors.length, 3);
});

Deno.test("Kubernetes: a named port, and only who is ready where that is wanted", async () => {
  const two = {
    ...slice("a", [endpoint("10.0.0.1"), endpoint("10.0.0.2", { ready: false })]),
    ports: [{ name: "metrics", port: 1 }, { name: "http", port: 2 }],
  };
  await using api = apiServer([listOf([two]), listOf([two])]);
  const named = discover(api.url, { portName: "http", readyOnly: true });
  assert.deepEqual(await named.servers(), ["http://10.0.0.1:2"]);
  assert.deepEqual(await discover(api.url, { portName: "none" }).servers(), []);
  assert.throws(() => discover(api.url, { service: "a/b" }), /name of a service/);
});

Deno.test("Kubernetes: a pod with addresses of both kinds is one server, one without any is none", async () => {
  const both = { ready: false };
  const v4 = slice("v4", [endpoint("10.0.0.1", both), { addresses: [] }]);
  const v6 = {
    ...slice("v6", [
      { ...endpoint("fd00::1", both), targetRef: { kind: "Pod", name: "pod-10.0.0.1" } },
      endpoint("fd00::2"),
    ]),
    addressType: "IPv6",
  };
  for (const items of [[v4, v6], [v6, v4]]) {
    await using api = apiServer([listOf(items)]);
    assert.deepEqual(await discover(api.url).servers(), [
      "http://10.0.0.1:30000",
      "http://[fd00::2]:30000",
    ]);
  }
});

Deno.test("the gate tells Kubernetes who holds the fleet's weights, each change once and in order", async () => {
  const pods = () => Response.json({ items: [{ metadata: { name: "sglang-0" } }] });
  const patched = () => Response.json({});
  await using api = apiServer([pods, patched, pods, patched]);
  const gate = refittedGate({
    service: "sglang-servers",
    namespace: "rl",
    apiServer: api.url,
    token: () => Promise.resolve("t"),
    onError: (error) => {
      throw error;
    },
  });
  const event = (to: FleetEvent["to"]): FleetEvent => ({
    at: 0,
    url: "http://10.0.0.1:30000",
    kind: "state",
    from: null,
    to,
    reason: "why",
  });
  for (const to of ["healthy", "suspect", "healthy", "dead"] as const) gate(event(to));
  while (api.calls.length < 4) await Deno.stat(".");
  assert.deepEqual(api.calls.map(({ method, path }) => `${method} ${path}`), [
    "GET /api/v1/namespaces/rl/pods",
    "PATCH /api/v1/namespaces/rl/pods/sglang-0/status",
    "GET /api/v1/namespaces/rl/pods",
    "PATCH /api/v1/namespaces/rl/pods/sglang-0/status",
  ]);
  assert.equal(api.calls[0]!.query.get("fieldSelector"), "status.podIP=10.0.0.1");
  const statuses = [1, 3].map((i) => JSON.parse(api.calls[i]!.body).status.conditions[0].status);
  assert.deepEqual(statuses, ["True", "False"]);
});

Deno.test("a supervisor takes in whom a discovery finds and lets go whom it has no more, but never all", async () => {
  const steps: (readonly string[])[] = [["http://a:1", "http://b:1"], [], ["http://b:1"]];
  const discovery: ServerDiscovery = {
    name: "a script",
    servers: () => Promise.resolve(steps[0]!),
    async *watch() {
      yield* steps;
    },
  };
  const fleet = new FakeFleet(["http://a:1"]);
  await using supervisor = FleetSupervisor.start(fleet, {
    clock: new FakeClock(),
    probe: () => Promise.resolve({ weightVersion: null }),
  });
  await supervisor.follow(discovery);
  for (let turn = 0; turn < 200; turn++) await Promise.resolve();
  assert.deepEqual(supervisor.servers.map(({ url }) => url), ["http://b:1"]);
  assert.deepEqual(fleet.serving, ["http://b:1"]);
});

Deno.test("a look that does not end is given up, and too many servers are refused", async () => {
  const clock = new FakeClock();
  const never = () => new Promise<never>(() => {});
  const discovery = serversInDns("servers", { port: 1, resolve: never as DnsResolver, clock });
  const look = discovery.servers().catch((error) => error);
  await clock.advance(60_000);
  assert.equal((await look).code, "timeout");
  const resolve = (() => Promise.resolve(["a", "b", "c"])) as unknown as DnsResolver;
  const many = serversInDns("servers", { port: 1, resolve, maxServers: 2 });
  await assert.rejects(many.servers(), { code: "limit", limit: "maxServers", max: 2 });
});
