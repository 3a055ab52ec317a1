import assert from "node:assert/strict";
import { join } from "node:path";
import { AbortedError, CrashedError, StateError, TimeoutError } from "../../../src/errors.ts";
import { isPortFree } from "../../../src/process/mod.ts";
import { makeSGLangServer, type SGLangServerOptions } from "../../../src/server/mod.ts";
import { leftOf, seenOfProcesses } from "../../_support/processes.ts";
import { hasPython } from "../process/_tree.ts";

/** Stands in for SGLang where a fault has to come at a moment that the real one can't be made to. */
const standIn = `
import http.server, os, sys, time
def option(name): return sys.argv[sys.argv.index(name) + 1]
mode = os.environ["STAND_IN"]
print("stand-in pid", os.getpid(), flush=True)
if mode == "silent": time.sleep(300)
if mode == "dies":
    print("CUDA out of memory", flush=True)
    sys.exit(7)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.HTTPServer(("127.0.0.1", int(option("--port"))), Health)
if mode == "tells": import json; print("args", json.dumps(sys.argv), flush=True)
print("serving", flush=True)
server.serve_forever()
`;
import { FakeClock } from "../../_support/clock.ts";

const ignore = !await hasPython();

function test(name: string, fn: (launch: Launch) => Promise<void>): void {
  Deno.test({
    name,
    ignore,
    async fn() {
      const folder = await Deno.makeTempDir();
      try {
        await Deno.mkdir(join(folder, "sglang"));
        await Deno.writeTextFile(join(folder, "sglang", "__init__.py"), "");
        await Deno.writeTextFile(join(folder, "sglang", "launch_server.py"), standIn);
        await fn((mode, options) =>
          makeSGLangServer({
            model: "m",
            python: "python3",
            logFile: join(folder, "server.log"),
            stopGraceMs: 100,
            env: { PYTHONPATH: folder, STAND_IN: mode },
            ...options,
          })
        );
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

type Launch = (
  mode: "serves" | "tells" | "dies" | "silent",
  options?: Partial<SGLangServerOptions>,
) => ReturnType<typeof makeSGLangServer>;

test("a server is handed out once its health is good; stopping it twice is safe", async (launch) => {
  await using server = await launch("serves", { tpSize: 2 });
  assert.equal(server.url, `http://127.0.0.1:${server.port}`);
  assert.deepEqual([server.tpSize, server.dpSize], [2, 1]);
  assert.match(server.logTail(), /^stand-in pid \d+\nserving$/);
  const exit = await server.stop();
  assert.deepEqual(await server.stop(), exit);
  assert.deepEqual(await leftOf([server.pid], { withinMs: 0 }), []);
});

// case 16
test("a process that dies before it is ready fails at once, with code, hint and log", async (launch) => {
  await assert.rejects(launch("dies"), (error) => {
    assert.ok(error instanceof CrashedError);
    assert.equal(error.exitCode, 7);
    assert.match(error.message, /^SGLang server on port \d+ ended with exit code 7\. The memory /);
    assert.match(error.logTail, /CUDA out of memory$/);
    return true;
  });
});

// case 16
test("a deadline ends the process, then throws with its last words", async (launch) => {
  using clock = FakeClock.install({ skipUpToMs: 1000 });
  const heard = Promise.withResolvers<void>();
  const launching = launch("silent", { readyTimeoutMs: 3_600_000, onLog: () => heard.resolve() });
  const late = assert.rejects(launching, (error) => {
    assert.ok(error instanceof TimeoutError);
    assert.match(error.lastHeard ?? "", /^stand-in pid \d+$/);
    return true;
  });
  await heard.promise;
  // Polls have passed some of it; to go further would pass the time for ending the process, too.
  await clock.advance(3_600_000 - clock.now());
  await late;
});

test("a launch that is given up leaves no process and no port", async (launch) => {
  const abort = new AbortController();
  let pid = 0;
  const launching = launch("silent", {
    signal: abort.signal,
    onLog: (line) => {
      pid = Number(line.split(" ").at(-1));
      abort.abort();
    },
  });
  await assert.rejects(launching, AbortedError);
  assert.deepEqual(await leftOf([pid], { withinMs: 0 }), []);
});

test("a port that is taken is refused at once", async (launch) => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  try {
    await assert.rejects(launch("serves", { port }), (error) => {
      assert.ok(error instanceof StateError);
      assert.match(error.message, new RegExp(`^Port ${port} is taken by another program`));
      return true;
    });
  } finally {
    listener.close();
  }
});

test("servers that start at once get ports of their own, which are free again afterwards", async (launch) => {
  const servers = await Promise.all([launch("serves"), launch("serves"), launch("serves")]);
  const used = servers.map((server) => server.port);
  assert.equal(new Set(used).size, 3);
  await Promise.all(servers.map((server) => server.stop()));
  assert.ok(used.every((port) => isPortFree(port)));
});

Deno.test({
  name: "a Python without SGLang is told what to install",
  ignore,
  async fn() {
    // Isolated from whatever this machine's python3 has.
    const folder = await Deno.makeTempDir();
    try {
      await Deno.mkdir(join(folder, "sglang"));
      const launching = makeSGLangServer({
        model: "m",
        python: "python3",
        logFile: join(folder, "server.log"),
        env: { PYTHONPATH: folder },
      });
      await assert.rejects(launching, (error) => {
        assert.ok(error instanceof CrashedError);
        assert.match(error.message, /That Python has no SGLang: install it there/);
        return true;
      });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});

test("no key and no password of a server is seen among the processes or in its log", async (launch) => {
  const secrets = ["sk-api-1f7c", "sk-admin-82aa", "ssl-55d0", "postgres-77e1"];
  const [apiKey, adminApiKey, sslKeyfilePassword, password] = secrets as [string, ...string[]];
  await using server = await launch("tells", {
    apiKey,
    adminApiKey,
    args: { sslKeyfilePassword: sslKeyfilePassword!, historyDb: `x://me:${password}@db/x` },
  });
  const seen = await seenOfProcesses();
  assert.match(seen, new RegExp(`${server.port}`));
  for (const secret of secrets) assert.equal(seen.includes(secret), false, secret);
  // The stand-in writes its arguments: they have arrived, and the log does not have them.
  assert.match(server.logTail(), /args .*--api-key", "\*\*\*"/);
});
