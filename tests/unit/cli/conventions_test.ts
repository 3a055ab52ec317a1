/** What all commands have in common: addresses, exit codes, keys of JSON, widths, pipes. */
import assert from "node:assert/strict";
import {
  AbortedError,
  PermissionError,
  UnreachableError,
  ValidationError,
  WeightSyncError,
} from "../../../src/errors.ts";
import { exitCodeMeanings, exitCodes, SignalError } from "../../../src/cli/mod.ts";
import { OutputClosedError } from "../../../src/cli/io.ts";
import { exitCodeOf, exitCodeOfSignal } from "../../../src/cli/exit_codes.ts";
import { addressFrom } from "../../../src/cli/listen_address.ts";
import { textTable } from "../../../src/cli/table.ts";
import { version } from "../../../src/internal/version.ts";
import { FakeClock } from "../../_support/clock.ts";
import { freePort } from "../../_support/free_port.ts";
import { jsonKeys } from "../../_support/json_keys.ts";
import { startTiny, tinyCheckpoint } from "../embedded/_support.ts";
import { commandNames, jsonLines, programOf, run } from "./_support.ts";

const root = new URL("../../../", import.meta.url);

Deno.test("--server takes one address and leaves the prompt alone; several by repeating or commas", async () => {
  await using first = await startTiny();
  await using second = await startTiny();
  const before = await run(["generate", "-s", first.url, "Hello", "-m", "2"]);
  assert.equal(before.code, 0, before.err);
  assert.match(before.out, /^> Hello\n/);
  const both = `${first.url},${second.url}/`;
  for (const servers of [["-s", both], ["-s", first.url, "-s", second.url], [`--server=${both}`]]) {
    const { code, out, err } = await run(["status", ...servers, "--json"]);
    assert.equal(code, 0, err);
    assert.deepEqual(jsonLines(out).map(({ server }) => server), [first.url, second.url]);
  }
  const next = await tinyCheckpoint({ seed: 1 });
  assert.equal((await run(["sync", "-s", both, next])).code, 0);
  const wrong = await run(["generate", "-s", "Hello", "World"]);
  assert.equal(wrong.code, 2);
  assert.match(wrong.err, /"Hello" is not the address of a server/);
});

Deno.test("whatever takes an address takes it however it is written, and nothing that is none", () => {
  const program = programOf();
  const takers = program.commands.flatMap((command) => [
    ...command.options.filter(({ flags }) => /[<[]url[>\]]/.test(flags)),
    ...command.registeredArguments.filter((argument) => argument.name() === "url"),
  ]);
  assert.ok(takers.length > 20, String(takers.length));
  for (const taker of takers) {
    const parse = (value: string) => [taker.parseArg!(value, [] as never)].flat();
    for (const written of ["http://Host:1/", "HTTP://host:1", "http://host:1//"]) {
      assert.deepEqual(parse(written), ["http://host:1"], taker.description);
    }
    assert.deepEqual(parse("http://host:80/"), ["http://host"], taker.description);
    // Where an argument is none, the fleet's addresses are told.
    if ("flags" in taker) assert.throws(() => parse("nonsense"), /is not the address/);
  }
});

Deno.test("whoever a command talks to, nobody there ends it with 3", async () => {
  const nobody = `http://127.0.0.1:${freePort()}`;
  const folder = await tinyCheckpoint();
  const commands = [
    ["generate", "Hello"],
    ["bench"],
    ["sync", folder],
    ["status"],
    ["pause"],
    ["resume"],
  ];
  const codes = await Promise.all(
    commands.map(async (command) => (await run([...command, "-s", nobody])).code),
  );
  assert.deepEqual(codes, commands.map(() => 3));
  const behind = await Promise.all(
    commands.map(async (command) => (await run([...command, "-r", nobody])).code),
  );
  assert.deepEqual(behind, commands.map(() => 3));
});

Deno.test("an error's exit code is that of what lies beneath it", () => {
  const url = "http://127.0.0.1:1";
  const unreachable = new UnreachableError("nobody", { url });
  const denied = new PermissionError("no", { flag: "--allow-net" });
  const deep = new AbortedError("sync", { cause: new AggregateError([unreachable]) });
  assert.equal(exitCodeOf(unreachable), 3);
  assert.equal(exitCodeOf(deep), 3);
  assert.equal(exitCodeOf(new Error("x", { cause: denied })), 4);
  assert.equal(exitCodeOf(new ValidationError("wrong", { cause: unreachable })), 2);
  assert.equal(exitCodeOf(new Error("else")), 1);
  assert.ok(WeightSyncError.prototype instanceof Error);
  const loop = new Error("loop");
  loop.cause = loop;
  assert.equal(exitCodeOf(loop), 1);
});

Deno.test("a signal ends every command with 128 and its number", () => {
  assert.equal(exitCodeOfSignal(new SignalError("SIGHUP")), 129);
  assert.equal(exitCodeOfSignal(new SignalError("SIGINT")), 130);
  assert.equal(exitCodeOfSignal(new SignalError("SIGTERM")), 143);
  assert.equal(exitCodeOfSignal(undefined), 130);
});

Deno.test("the document has the table of exit codes and every command", async () => {
  const text = await Deno.readTextFile(new URL("docs/cli.md", root));
  const rows = [...text.matchAll(/^\| (\d+) +\| (.+?) *\|$/gm)];
  assert.deepEqual(
    Object.fromEntries(rows.map(([, code, meaning]) => [code, meaning])),
    Object.fromEntries(Object.entries(exitCodeMeanings)),
  );
  assert.deepEqual(
    Object.keys(exitCodeMeanings).map(Number).toSorted((a, b) => a - b),
    Object.values(exitCodes).toSorted((a, b) => a - b),
  );
  const named = [...text.matchAll(/^\| `([a-z]+)` /gm)].map(([, name]) => name);
  assert.deepEqual(named.toSorted(), commandNames().toSorted());
});

Deno.test("--version is the package's", async () => {
  const { version: published } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  assert.equal(version, published);
  assert.deepEqual(await run(["--version"]), { code: 0, out: `${published}\n`, err: "" });
});

Deno.test("keys of JSON are snake case in every command", async () => {
  await using server = await startTiny();
  const next = await tinyCheckpoint({ seed: 1 });
  const lines = await Promise.all([
    ["generate", "Hello", "-m", "2", "--log-probs"],
    ["status"],
    ["bench", "--prompts", "2", "-m", "2", "--rounds", "1"],
    ["sync", next],
    ["pause"],
    ["resume"],
    ["doctor"],
  ].map(async (command) => jsonLines((await run([...command, "-s", server.url, "--json"])).out)));
  const all = jsonKeys(lines);
  assert.ok(all.includes("weight_version") && all.length > 40);
  assert.deepEqual(all.filter((key) => !/^[a-z0-9_]+$/.test(key)), []);
});

Deno.test("status fits a terminal of any width and tells everything in all of them", async () => {
  await using first = await startTiny();
  await using second = await startTiny();
  const servers = ["-s", first.url, "-s", second.url];
  for (const columns of [20, 40, 80, 400]) {
    const { out } = await run(["status", ...servers], { columns });
    assert.ok(out.split("\n").every((line) => line.length <= columns), `${columns}:\n${out}`);
    for (const title of ["server", "health", "weights", "kv %", "cache hit %", "checkpoint"]) {
      assert.ok(out.includes(title), `${columns} lacks ${title}`);
    }
  }
});

Deno.test("status --watch draws from the top of the terminal and never more than its rows", async () => {
  await using server = await startTiny();
  const interrupt = new AbortController();
  const args = ["status", "-s", server.url, "--watch", "--interval", "0.1"];
  const { code, out } = await run(args, {
    signal: interrupt.signal,
    columns: 30,
    rows: 6,
    onOut: (text) => {
      if (text.split("\x1b[2J").length > 3) interrupt.abort();
    },
  });
  assert.equal(code, 130);
  const [before, ...frames] = out.split("\x1b[H\x1b[2J");
  assert.equal(before, "");
  assert.ok(frames.length >= 3);
  for (const text of frames) {
    assert.ok(text.trimEnd().split("\n").length < 6, text);
    assert.match(text, /more lines\n$/);
  }
});

Deno.test("columns that fit stand side by side, others one below the other", () => {
  assert.equal(textTable(["a", "b"], [["x", 1]], 10), "a  b\nx  1\n");
  const rows = [["xyz", 1], ["u", null]];
  assert.equal(textTable(["a", "long"], rows, 8), "a     x…\nlong  1\n\na     u\nlong  -\n");
});

Deno.test("metrics are Prometheus's text: one family each, labels escaped", async () => {
  await using server = await startTiny();
  const { code, out } = await run(["metrics", "-s", server.url]);
  assert.equal(code, 0);
  for (const line of out.trimEnd().split("\n")) {
    assert.match(
      line,
      /^(# (HELP|TYPE) sglang_rl_\w+ .+|sglang_rl_\w+\{\w+="[^"]*"(,\w+="[^"]*")*\} -?[\d.]+)$/,
    );
  }
  assert.ok(out.includes(`sglang_rl_server_ready{server="${server.url}"} 1\n`));
  assert.match(out, /sglang_rl_server_info\{.*weight_version="default".*\} 1/);
});

Deno.test("metrics of servers of which none answers end with 3, and are printed all the same", async () => {
  await using server = await startTiny();
  const dead = "http://127.0.0.1:10999";
  const { code, out } = await run(["metrics", "-s", dead]);
  assert.equal(code, 3);
  assert.ok(out.includes(`sglang_rl_server_up{server="${dead}"} 0\n`));
  assert.equal((await run(["metrics", "-s", `${dead},${server.url}`])).code, 0);
});

Deno.test("metrics --listen answers scrapes until it is ended, each with what the servers say now", async () => {
  await using server = await startTiny();
  const stop = new AbortController();
  const listening = Promise.withResolvers<string>();
  const running = run(["metrics", "-s", server.url, "--listen", "0"], {
    signal: stop.signal,
    onOut: (out) => listening.resolve(/http:\S+/.exec(out)![0]),
  });
  const url = await listening.promise;
  const scrape = async () => {
    const answer = await fetch(url);
    assert.match(answer.headers.get("content-type")!, /^text\/plain; version=0\.0\.4/);
    return await answer.text();
  };
  assert.ok((await scrape()).includes(`sglang_rl_server_up{server="${server.url}"} 1\n`));
  await server[Symbol.asyncDispose]();
  assert.ok((await scrape()).includes(`sglang_rl_server_up{server="${server.url}"} 0\n`));
  const elsewhere = await fetch(new URL("/", url));
  assert.equal(elsewhere.status, 404);
  await elsewhere.body?.cancel();
  stop.abort();
  await running;
});

Deno.test("an address to listen at is a port, a host and a port, and nothing else", () => {
  assert.deepEqual(addressFrom("80"), { hostname: "127.0.0.1", port: 80 });
  assert.deepEqual(addressFrom("0.0.0.0:9400"), { hostname: "0.0.0.0", port: 9400 });
  assert.deepEqual(addressFrom("[::1]:9400"), { hostname: "::1", port: 9400 });
  for (
    const text of ["", ":1", "a", "a:", "1:2:3", "65536", "-1", "::1:80", "a b:1", "http://a:1"]
  ) {
    assert.throws(() => addressFrom(text), /It is a port/, text);
  }
});

Deno.test("a command whose reader has enough ends with 0, one whose terminal is gone with 129", async () => {
  const onOut = () => {
    throw new OutputClosedError();
  };
  assert.equal((await run(["completion", "bash"], { onOut })).code, 0);
  assert.equal((await run(["completion", "bash"], { onOut, columns: 80 })).code, 129);
});

Deno.test("a sync leaves paused what was paused, and says so", async () => {
  // It tells by /ready that it is not; that it is takes a wait, which the fake clock passes over.
  await using server = await startTiny({ version: "0.5.23" });
  assert.equal((await run(["pause", "-s", server.url])).code, 0);
  using _clock = FakeClock.install({ skipUpToMs: 1_000 });
  const folder = await tinyCheckpoint({ seed: 1 });
  const { code, out, err } = await run(["sync", folder, "-s", server.url, "--json"]);
  assert.equal(code, 0, err);
  assert.deepEqual(jsonLines(out)[0]!.paused, [server.url]);
  assert.match(err, /was paused before this sync; it stays paused/);
  assert.equal(server.stats.paused, true);
});

Deno.test("pause and resume reach every server", async () => {
  await using server = await startTiny();
  assert.equal((await run(["pause", "-s", server.url, "--mode", "in_place"])).code, 0);
  assert.equal(server.stats.paused, true);
  const resumed = await run(["resume", "-s", server.url, "--json"]);
  assert.deepEqual(jsonLines(resumed.out), [{ server: server.url, state: "resumed", error: null }]);
  assert.equal(server.stats.paused, false);
});

Deno.test("a port in use is named", async () => {
  await using server = await startTiny();
  const { port } = new URL(server.url);
  const { code, err } = await run(["serve", "--embedded", "--port", port]);
  assert.equal(code, 1);
  assert.match(err, new RegExp(`Port ${port} of 127\\.0\\.0\\.1 is taken`));
});

Deno.test("a port that is none ends serve with 2", async () => {
  for (const port of ["0", "65536", "99999", "1.5", "-1", "x", "0x50"]) {
    for (const option of ["port", "control-port"]) {
      const { code, err } = await run(["serve", "--embedded", `--${option}=${port}`]);
      assert.equal(code, 2);
      assert.match(err, /a port from 1 to 65535/);
    }
  }
});

Deno.test("serve refuses a flag that has an option of its own, by the name of that option", async () => {
  for (
    const [flag, option] of [["host=0.0.0.0", "--host"], ["port=1", "--port"], [
      "tp-size=2",
      "--tp",
    ]]
  ) {
    const { code, err } = await run(["serve", "model", "--arg", flag!]);
    assert.equal(code, 2);
    assert.ok(err.includes(`what ${option} of this command`), err);
  }
});

Deno.test("doctor tells which server wants a key, and names the variable", async () => {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const isAllowed = request.headers.get("authorization") === "Bearer right";
    if (!isAllowed) return Response.json({ error: "Unauthorized" }, { status: 401 });
    const workers = [{ id: "1", url: "http://127.0.0.1:1", is_healthy: false }];
    return Response.json(new URL(request.url).pathname === "/workers" ? { workers } : {});
  });
  await using _stop = { [Symbol.asyncDispose]: () => server.shutdown() };
  const url = `http://127.0.0.1:${server.addr.port}`;
  const without = await run(["doctor", "-s", url]);
  assert.match(without.out, /BROKEN .*wants a key\n +-> set SGLANG_API_KEY/);
  const wrong = await run(["doctor", "-s", url, "--api-key-env", "MINE"], { env: { MINE: "bad" } });
  assert.match(wrong.out, /does not take the key of MINE/);
  const router = await run(["doctor", "-r", url], { env: { SGLANG_API_KEY: "right" } });
  assert.match(router.out, /BROKEN {2}router .* sends nothing to http:\/\/127\.0\.0\.1:1\n/);
  // The server behind it does not answer.
  assert.equal(router.code, 3);
});
