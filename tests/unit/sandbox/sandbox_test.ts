import assert from "node:assert/strict";
import { join } from "node:path";
import { runSandboxed, sandboxEnvironment } from "../../../src/sandbox/mod.ts";
import { LimitError, ValidationError } from "../../../src/errors.ts";

const signal = new AbortController().signal;

Deno.test("code runs and its output comes back, TypeScript too", async () => {
  const result = await runSandboxed("const x: number = 6 * 7; console.log(`<${x}> é`);");
  assert.deepEqual(result, {
    ok: true,
    ending: "exit",
    stdout: "<42> é\n",
    stderr: "",
    denied: null,
  });
  const failed = await runSandboxed("console.log('a'); throw new Error('no');");
  assert.deepEqual([failed.ok, failed.ending, failed.stdout], [false, "exit", "a\n"]);
  assert.match(failed.stderr, /Error: no/);
});

Deno.test("hostile code gets no file, network, process, environment or module of others", async () => {
  const secret = await Deno.makeTempFile({ suffix: ".json" });
  try {
    await Deno.writeTextFile(secret, '"the secret"');
    const hostile: [string, string][] = [
      ["read", `console.log(Deno.readTextFileSync(${JSON.stringify(secret)}))`],
      [
        "read",
        `import { readFileSync } from "node:fs"; console.log(readFileSync(${
          JSON.stringify(secret)
        }, "utf8"))`,
      ],
      ["write", `Deno.writeTextFileSync("/tmp/escaped", "x")`],
      ["net", `await fetch("http://127.0.0.1:8080/")`],
      ["net", `Deno.listen({ port: 0 })`],
      ["run", `new Deno.Command("/bin/sh", { args: ["-c", "id"] }).spawn()`],
      ["env", `import { spawn } from "node:child_process"; spawn("/bin/id")`],
      ["env", `console.log(Deno.env.toObject())`],
      ["ffi", `Deno.dlopen("libc.so.6", {})`],
      ["run", `Deno.kill(${Deno.pid}, "SIGTERM")`],
      ["sys", `Deno.hostname()`],
    ];
    const results = [];
    for (const [wanted, code] of hostile) results.push([wanted, await runSandboxed(code)] as const);
    for (const [wanted, { ok, denied, stdout, stderr }] of results) {
      assert.deepEqual([ok, denied, stdout], [false, wanted, ""], stderr);
    }
    const modules = [
      `import secret from ${
        JSON.stringify(`file://${secret}`)
      } with { type: "json" }; console.log(secret)`,
      `console.log(await import(${
        JSON.stringify(`file://${secret}`)
      }, { with: { type: "json" } }))`,
      `import "https://example.com/x.ts"`,
      `import "npm:zod"`,
      `new Worker("data:application/javascript,Deno.readTextFileSync('/etc/passwd')", { type: "module", deno: { permissions: { read: true } } }); await new Promise(() => {});`,
    ];
    for (const code of modules) {
      const { ok, stdout, stderr } = await runSandboxed(code);
      assert.deepEqual([ok, stdout], [false, ""], code);
      assert.doesNotMatch(stderr, /the secret|root:/);
    }
  } finally {
    await Deno.remove(secret);
  }
});

Deno.test("a run leaves nothing to the next one, on the disk neither", async () => {
  const key = crypto.randomUUID();
  const kept = [
    `localStorage.setItem("${key}", "x")`,
    `await (await caches.open("${key}")).put("http://a/", new Response("x"))`,
    `new Worker("data:application/javascript,await caches.open('${key}'); postMessage(1)", ` +
    `{ type: "module" }).onmessage = () => console.log("kept"); await new Promise(() => {})`,
  ];
  for (const code of kept) {
    const { ok, stdout } = await runSandboxed(code);
    assert.deepEqual([ok, stdout], [false, ""], code);
  }
  const found = await runSandboxed(
    `console.log(await caches.has("${key}").catch(() => false));` +
      `try { console.log(localStorage.getItem("${key}")) } catch { console.log(null) }`,
  );
  assert.equal(found.stdout, "false\nnull\n");
});

Deno.test("code that leaves before the tests behind it has not passed them", async () => {
  const leaving = [
    "Deno.exit(0);",
    "import process from 'node:process'; process.exit(0);",
    "new Worker('data:application/javascript,Deno.exit(0)', { type: 'module' });" +
    " await new Promise(() => setTimeout(() => {}, 9000));",
    "globalThis.addEventListener('unload', () => console.error(Deno.mainModule)); Deno.exit();",
  ];
  for (const code of leaving) {
    const { ok } = await runSandboxed(`${code}\nthrow new Error("a test");`);
    assert.equal(ok, false, code);
  }
  const { stderr } = await runSandboxed("Deno.exit(0)");
  assert.equal(stderr, "The program left before its end, as by Deno.exit().\n");
  const loud = await runSandboxed("console.error('x'.repeat(99))", { outputBytes: 100 });
  assert.deepEqual([loud.ok, loud.ending, loud.stderr.length], [true, "exit", 100]);
});

Deno.test("code gets the files and hosts that are given, and nothing beside them", async () => {
  const folder = await Deno.makeTempDir();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    () => new Response("hi"),
  );
  try {
    const given = join(folder, "given by name");
    await Deno.mkdir(given);
    await Deno.writeTextFile(join(given, "task.txt"), "the task");
    await Deno.writeTextFile(join(folder, "other.txt"), "the secret");
    const permissions = {
      read: [given],
      write: [join(given, "out.txt")],
      net: [`127.0.0.1:${server.addr.port}`],
    };
    const path = (...names: string[]) => JSON.stringify(join(...names));
    const cases: [string, string | null][] = [
      [`console.log(Deno.readTextFileSync(${path(given, "task.txt")}))`, null],
      [`Deno.writeTextFileSync(${path(given, "out.txt")}, "x")`, null],
      [`console.log(await (await fetch("http://127.0.0.1:${server.addr.port}")).text())`, null],
      [`console.log(Deno.readTextFileSync(${path(folder, "other.txt")}))`, "read"],
      [`console.log(Deno.readTextFileSync(${path(given, "..", "other.txt")}))`, "read"],
      [`Deno.writeTextFileSync(${path(given, "task.txt")}, "x")`, "write"],
      [`await fetch("http://127.0.0.1:${server.addr.port + 1}")`, "net"],
      [`await fetch("http://localhost:${server.addr.port}")`, "net"],
      [`Deno.symlinkSync(${path(folder, "other.txt")}, ${path(given, "out.txt")})`, "read"],
    ];
    for (const [code, denied] of cases) {
      const result = await runSandboxed(code, { permissions });
      assert.deepEqual([result.ok, result.denied], [denied === null, denied], result.stderr);
      assert.doesNotMatch(result.stdout, /secret/);
    }
    const nothing = { permissions: { read: [], write: [], net: [] } };
    const { denied } = await runSandboxed(cases[0]![0], nothing);
    assert.equal(denied, "read");
  } finally {
    await server.shutdown();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("permissions that would give more than they say are refused", async () => {
  const refused: [unknown, RegExp][] = [
    [{ read: ["data"] }, /permissions\.read must be absolute paths without a comma, not "data"/],
    [{ read: ["/a,/"] }, /permissions\.read must be absolute paths without a comma, not "\/a,\/"/],
    [{ write: [""] }, /permissions\.write must be absolute paths without a comma, not ""/],
    [{ net: [""] }, /permissions\.net must be hosts, not ""/],
    [{ net: ["a,b"] }, /permissions\.net must be hosts, not "a,b"/],
    [{ run: ["/bin/sh"] }, /Unknown option "run" of the permissions of a sandbox/],
    [{ all: true }, /Unknown option "all"/],
  ];
  for (const [permissions, message] of refused) {
    const run = () => runSandboxed("", { permissions: permissions as Record<string, never> });
    await assert.rejects(run, { name: "ValidationError", message });
  }
});

Deno.test("code without end, without bound and without shame is stopped, and its process is gone", async () => {
  const loop = await runSandboxed("for (;;);", { timeoutMs: 700 });
  assert.deepEqual([loop.ok, loop.ending], [false, "time"]);
  const wait = await runSandboxed("setInterval(() => {}, 1000)", { timeoutMs: 700 });
  assert.equal(wait.ending, "time");
  const loud = await runSandboxed("for (;;) console.log('x'.repeat(1000))", { outputBytes: 5_000 });
  assert.deepEqual([loud.ending, loud.stdout.length], ["output", 5_000]);
  const greedy = await runSandboxed("const a = []; for (;;) a.push({ x: Math.random() })", {
    memoryMib: 32,
    timeoutMs: 30_000,
  });
  assert.deepEqual([greedy.ok, greedy.ending], [false, "killed"]);
  const buffers = await runSandboxed(
    "const a = []; for (;;) a.push(new Uint8Array(1 << 24).fill(1))",
    {
      memoryMib: 32,
      timeoutMs: 30_000,
    },
  );
  assert.equal(buffers.ok, false);
  assert.match(buffers.stderr + buffers.ending, /allocation failed|killed/);
  const busy = await runSandboxed("for (;;);", { cpuSeconds: 1, timeoutMs: 30_000 });
  assert.equal(busy.ending, "killed");
});

Deno.test("an aborted run ends, and limits that make no sense are refused", async () => {
  const stop = new AbortController();
  const running = runSandboxed("for (;;);", { signal: stop.signal, timeoutMs: 60_000 });
  stop.abort(new Error("enough"));
  await assert.rejects(running, /enough/);
  await assert.rejects(runSandboxed("1", { memoryMib: 0 }), ValidationError);
  await assert.rejects(runSandboxed("x".repeat(11), { codeChars: 10 }), LimitError);
});

Deno.test("a model that fails is shown why, and what passes the tests is rewarded", async () => {
  const environment = sandboxEnvironment({
    prompts: [{ text: "Write add.", test: "if (add(2, 3) !== 5) throw new Error('wrong sum')" }],
    promptOf: ({ text }) => text,
    programOf: (code, { test }) => `${code}\n${test}`,
    tries: 2,
  });
  await environment.reset({ dialog: 0, attempt: 0, group: 0, member: 0, signal });
  const step = (content: string, turn: number) =>
    environment.step({
      message: { role: "assistant", content },
      ids: new Int32Array(),
      turn,
      cut: false,
      signal,
    });
  const first = await step("Here:\n```ts\nconst add = (a, b) => a - b;\n```", 0);
  assert.deepEqual([first.reward, first.done], [0, false]);
  assert.match(String(first.messages![0]!.content), /The code failed[^]*wrong sum/);
  const refused = await step("```ts\nDeno.readTextFileSync('/etc/passwd')\n```", 0);
  assert.deepEqual(refused.info, { sandbox: { ok: false, ending: "exit", denied: "read" } });
  assert.match(String(refused.messages![0]!.content), /no read permission/);
  const second = await step("```ts\nconst add = (a: number, b: number) => a + b;\n```", 1);
  assert.deepEqual([second.reward, second.done], [1, true]);
});

Deno.test("code that may write fills no disk: a file of more than fileMib ends it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "out");
    const permissions = { write: [path] };
    const file = `using file = Deno.openSync(${
      JSON.stringify(path)
    }, { write: true, create: true, truncate: true });`;
    const fits = await runSandboxed(`${file} file.writeSync(new Uint8Array(2 ** 20))`, {
      permissions,
      fileMib: 1,
    });
    assert.deepEqual([fits.ok, fits.stderr], [true, ""]);
    for (
      const code of [
        `${file} for (;;) file.writeSync(new Uint8Array(2 ** 19))`,
        `${file} file.truncateSync(2 ** 40)`,
      ]
    ) {
      const { ok, ending } = await runSandboxed(code, { permissions, fileMib: 1 });
      assert.deepEqual([ok, ending], [false, "killed"]);
      assert.ok((await Deno.stat(path)).size <= 2 ** 20);
    }
    await assert.rejects(runSandboxed("1", { fileMib: 0 }), ValidationError);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
