import assert from "node:assert/strict";
import { SGLangError, UnreachableError, ValidationError } from "../../../src/errors.ts";
import { readLines } from "../../../src/internal/lines.ts";
import { connectMcp, mcpEnvironment, type McpServer } from "../../../src/mcp/mod.ts";
import { freePort } from "../../_support/free_port.ts";

/** The reference server of the protocol, with tools of every kind. */
const everything = "npm:@modelcontextprotocol/server-everything";
const passed = Object.fromEntries(
  ["DENO_DIR", "XDG_CACHE_HOME"].flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  }),
);
const overStdio: McpServer = {
  command: Deno.execPath(),
  args: ["run", "-A", "--quiet", everything, "stdio"],
  env: passed,
};
const signal = new AbortController().signal;
const start = { dialog: 0, attempt: 0, group: 0, member: 0, signal };

/**
 * The SDK leaves timers of two seconds behind, which hold nothing and keep nobody, and the sanitizer
 * cannot tell them from others. That no server is left is looked at below.
 */
const withTimers = { sanitizeOps: false, sanitizeResources: false } as const;

/** Servers of this process that run, by their numbers and command lines. */
async function serversLeft(): Promise<string[]> {
  const script = `for f in $(grep -ls "^PPid:.${Deno.pid}$" /proc/[0-9]*/status); do ` +
    `p=\${f%/status}; printf "%s " "\${p#/proc/}"; tr '\\0' ' ' < "$p/cmdline"; echo; ` +
    `done 2>/dev/null; true`;
  const { stdout } = await new Deno.Command("sh", { args: ["-c", script] }).output();
  const lines = new TextDecoder().decode(stdout).split("\n");
  return lines.filter((line) => /server-everything|^\d+ cat /.test(line));
}

/** An answer of the policy. */
function action(content: string, calls: readonly [string, unknown][] = []) {
  return {
    message: {
      role: "assistant",
      content,
      toolCalls: calls.map(([name, args]) => ({ function: { name, arguments: args } })),
    },
    ids: new Int32Array(),
    turn: 0,
    cut: false,
    signal,
  };
}

async function useTools(server: McpServer): Promise<void> {
  const environment = mcpEnvironment({
    servers: { everything: server },
    tools: ["echo", "get-sum"],
    prompts: ["What is 2 + 3?"],
    reward: ({ message }) => message.content === "5" ? 1 : 0,
  });
  try {
    const { tools, messages } = await environment.reset(start);
    assert.deepEqual(messages, [{ role: "user", content: "What is 2 + 3?" }]);
    const names = tools!.map((tool) => (tool.function as { name: string }).name);
    assert.deepEqual(names, ["echo", "get-sum"]);
    const step = await environment.step(
      action("", [["get-sum", { a: 2, b: 3 }], ["echo", { message: "hi" }], ["get-sum", {
        a: "x",
      }]]),
    );
    assert.equal(step.done, false);
    const answers = step.messages!.map(({ content }) => String(content));
    assert.match(answers[0]!, /5/);
    assert.match(answers[1]!, /hi/);
    assert.match(answers[2]!, /^Error: /);
    assert.deepEqual(await environment.step(action("5")), { reward: 1, done: true });
  } finally {
    await environment.close!();
  }
}

Deno.test(
  "tools of a real MCP server that is started are found, run and answered",
  withTimers,
  async () => {
    await useTools(overStdio);
    assert.deepEqual(await serversLeft(), []);
  },
);

/** The real server over HTTP, until it is disposed of. */
async function serverOverHttp(port: number): Promise<AsyncDisposable> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", everything, "streamableHttp"],
    env: { PORT: String(port) },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const drained = child.stdout.pipeTo(new WritableStream()).catch(() => {});
  for await (const line of readLines(child.stderr)) if (line.includes(String(port))) break;
  return {
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.status;
      await drained;
    },
  };
}

Deno.test("tools of a real MCP server over HTTP are found, run and answered", async () => {
  const port = freePort();
  await using _server = await serverOverHttp(port);
  await useTools({ url: `http://127.0.0.1:${port}/mcp` });
});

function echoing(server: McpServer) {
  return mcpEnvironment({
    servers: { everything: server },
    tools: ["echo"],
    prompts: ["Say hi."],
    reward: () => 1,
  });
}

Deno.test(
  "a server that ends fails its dialog, and the next one has tools again",
  withTimers,
  async () => {
    const environment = echoing(overStdio);
    const echo = async () => await environment.step(action("", [["echo", { message: "hi" }]]));
    try {
      for (const killedDuring of [true, false]) {
        await environment.reset(start);
        assert.match(String((await echo()).messages![0]!.content), /hi/);
        const [server] = await serversLeft();
        Deno.kill(Number(server!.split(" ")[0]), "SIGKILL");
        if (killedDuring) {
          await assert.rejects(echo(), (error) => {
            return error instanceof UnreachableError && /"everything" ended/.test(error.message);
          });
        }
      }
      await environment.reset(start);
      assert.match(String((await echo()).messages![0]!.content), /hi/);
    } finally {
      await environment.close!();
    }
    assert.deepEqual(await serversLeft(), []);
  },
);

Deno.test("a server over HTTP that knows the session no more is connected to anew", async () => {
  const port = freePort();
  const environment = echoing({ url: `http://127.0.0.1:${port}/mcp` });
  for (let runs = 0; runs < 2; runs++) {
    await using _server = await serverOverHttp(port);
    await environment.reset(start);
    const { messages } = await environment.step(action("", [["echo", { message: "hi" }]]));
    assert.match(String(messages![0]!.content), /hi/);
    if (runs === 1) await environment.close!();
  }
});

Deno.test(
  "answers are cut, calls have a deadline, and unknown tools are refused by name",
  withTimers,
  async () => {
    {
      await using mcp = await connectMcp({ everything: overStdio }, { answerChars: 10 });
      assert.equal((await serversLeft()).length, 1);
      const echo = await mcp.tools.echo!.call({ message: "x".repeat(100) }, { signal });
      assert.equal(String(echo).split("\n")[1], "[cut at 10 characters]");
    }
    // Its timer is the SDK's own, so this one may answer nothing in its time.
    await using hasty = await connectMcp({ everything: overStdio }, { callTimeoutMs: 300 });
    await assert.rejects(
      async () =>
        await hasty.tools["trigger-long-running-operation"]!.call({ duration: 60, steps: 2 }, {
          signal,
        }),
      (error) => error instanceof SGLangError && /MCP tool trigger-long/.test(error.message),
    );
    await assert.rejects(
      connectMcp({ everything: overStdio }, { tools: ["fly"] }),
      ValidationError,
    );
    await assert.rejects(connectMcp({ everything: overStdio }, { maxTools: 1 }), ValidationError);
  },
);

Deno.test(
  "a server that is not there, and one that speaks no MCP, are told of by name",
  withTimers,
  async () => {
    const gone = { url: `http://127.0.0.1:${freePort()}/mcp` };
    await assert.rejects(connectMcp({ gone }), (error) => {
      return error instanceof UnreachableError && /"gone"/.test(error.message);
    });
    await assert.rejects(connectMcp({ none: { command: "/nowhere/mcp" } }), /MCP server "none"/);
    const mute = { command: "cat" };
    await assert.rejects(connectMcp({ mute }, { connectTimeoutMs: 300 }), /MCP server "mute"/);
    assert.deepEqual(await serversLeft(), []);
  },
);

/** A server of one tool whose answer its own pattern tries in endlessly many ways. */
async function answerOfPatterns(request: Request): Promise<Response> {
  if (request.method !== "POST") return new Response(null, { status: 405 });
  const { id, method, params } = await request.json();
  if (id === undefined) return new Response(null, { status: 202 });
  const results: Readonly<Record<string, unknown>> = {
    initialize: {
      protocolVersion: params?.protocolVersion,
      capabilities: { tools: {} },
      serverInfo: { name: "patterns", version: "1" },
    },
    "tools/list": {
      tools: [{
        name: "words",
        inputSchema: { type: "object" },
        outputSchema: {
          type: "object",
          properties: { text: { type: "string", pattern: "^(a+)+$" } },
        },
      }],
    },
    "tools/call": {
      content: [{ type: "text", text: "said" }],
      structuredContent: { text: `${"a".repeat(99)}b` },
    },
  };
  return Response.json({ jsonrpc: "2.0", id, result: results[method] });
}

Deno.test({
  name: "a server's schema of its answers is no work of this process",
  ...withTimers,
  async fn() {
    await using server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      answerOfPatterns,
    );
    await using mcp = await connectMcp({
      one: { url: `http://127.0.0.1:${server.addr.port}/mcp` },
    });
    assert.equal(await mcp.tools.words!.call({}, { ...start, signal }), "said");
  },
});

Deno.test({
  name: "an answer of a server that does not end is left where it gets too long",
  ...withTimers,
  async fn() {
    let sent = 0;
    await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => {
      const body = new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(65_536).fill(++sent > 0 ? 32 : 0)),
      });
      return new Response(body, { headers: { "content-type": "application/json" } });
    });
    await assert.rejects(
      connectMcp({ one: { url: `http://127.0.0.1:${server.addr.port}/mcp` } }, {
        answerBytes: 1_000_000,
      }),
      (error) => {
        assert.ok(error instanceof SGLangError);
        assert.match(error.message, /longer than answerBytes, 1000000/);
        return true;
      },
    );
    assert.ok(sent < 200, `${sent} parts`);
  },
});

Deno.test("a server whose list of tools does not end is given up", withTimers, async () => {
  let pages = 0;
  await using server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    async (asked) => {
      const { id, method, params } = await asked.json().catch(() => ({}));
      if (id === undefined) {
        return new Response(null, { status: asked.method === "GET" ? 405 : 202 });
      }
      const info = {
        protocolVersion: params?.protocolVersion,
        capabilities: { tools: {} },
        serverInfo: { name: "endless", version: "1" },
      };
      const result = method === "initialize" ? info : { tools: [], nextCursor: String(++pages) };
      return Response.json({ jsonrpc: "2.0", id, result });
    },
  );
  const endless = { url: `http://127.0.0.1:${server.addr.port}/mcp` };
  const connected = connectMcp({ endless }, { connectTimeoutMs: 1000 });
  await assert.rejects(connected, { code: "timeout" });
  assert.ok(pages > 1);
});
