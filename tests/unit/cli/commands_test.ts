import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { type EmbeddedServer, makeTinyCheckpoint } from "../../../src/embedded/mod.ts";
import { get, post, startTiny, tinyCheckpoint } from "../embedded/_support.ts";
import { commandNames, jsonLines, run } from "./_support.ts";
import { FakeClock, turns, until } from "../../_support/clock.ts";

Deno.test("help: every command shows examples and ends with 0", async () => {
  for (const command of commandNames()) {
    const { code, out } = await run([command, "--help"]);
    assert.equal(code, 0);
    assert.match(out, /Examples:\n {2}\S/, command);
    assert.doesNotMatch(out, /default: [{[]/, `${command} shows what nobody could type`);
  }
});

Deno.test("wrong arguments end with 2 and say what was meant", async () => {
  const unknown = await run(["statsu"]);
  assert.equal(unknown.code, 2);
  assert.match(unknown.err, /Did you mean status/);
  assert.equal((await run([])).code, 2);
  const number = await run(["bench", "--prompts", "none"]);
  assert.equal(number.code, 2);
  assert.match(number.err, /whole number of 1 or more/);
  const servers = await run(["generate", "hello"]);
  assert.equal(servers.code, 2);
  assert.match(servers.err, /--server URL/);
});

Deno.test("a server that nobody runs ends with 3", async () => {
  const used = await run(["generate", "Hello", "-s", "http://127.0.0.1:10999"]);
  assert.equal(used.code, 3);
  assert.match(used.err, /127\.0\.0\.1:10999/);
  const looked = await run(["status", "-s", "http://127.0.0.1:10999", "--json"]);
  assert.equal(looked.code, 3);
  assert.equal(jsonLines(looked.out)[0]!.health, "unreachable");
});

Deno.test("generate: text for people, JSON lines for programs", async () => {
  await using server = await startTiny();
  const common = ["-s", server.url, "-m", "5", "-t", "0"];
  const text = await run(["generate", "Hello", ...common]);
  assert.equal(text.code, 0);
  assert.match(text.out, /^> Hello\n/);
  const json = await run([
    "generate",
    "Hello",
    "--file",
    "-",
    ...common,
    "-n",
    "2",
    "--log-probs",
    "--json",
  ], { stdin: "World\n\nAgain\n" });
  const samples = jsonLines<{ prompt: string; ids: number[]; log_probs: number[] }>(json.out);
  const prompts = samples.map(({ prompt }) => prompt);
  assert.deepEqual(prompts, ["Hello", "Hello", "World", "World", "Again", "Again"]);
  assert.ok(samples.every(({ ids, log_probs }) => ids.length === 5 && log_probs.length === 5));
});

Deno.test("generate --stream writes the text as a whole call makes it", async () => {
  await using server = await startTiny();
  const args = ["generate", "Hello", "-s", server.url, "-m", "8", "-t", "0"];
  const [whole] = jsonLines<{ text: string }>((await run([...args, "--json"])).out);
  const streamed = await run([...args, "--stream"]);
  assert.equal(streamed.out, `${whole!.text}\n`);
  assert.equal((await run([...args, "again", "--stream"])).code, 2);
});

Deno.test("generate: Ctrl-C ends it with 130", async () => {
  await using server = await startTiny({ faults: { stallAfterTokens: 3 } });
  const interrupt = new AbortController();
  const running = run(["generate", "Hello", "-s", server.url], { signal: interrupt.signal });
  await until(() => server.faults.stalled === true);
  interrupt.abort();
  assert.deepEqual(await running, { code: 130, out: "", err: "Interrupted\n" });
});

Deno.test("sync pushes a checkpoint into every server and tells the version", async () => {
  const next = await tinyCheckpoint({ seed: 1 });
  await using first = await startTiny();
  await using second = await startTiny();
  const { code, out } = await run([
    "sync",
    next,
    "-s",
    first.url,
    "-s",
    second.url,
    "--json",
  ]);
  assert.equal(code, 0);
  const [report] = jsonLines(out);
  // The version is the checkpoint's name.
  const name = basename(next);
  assert.equal(report!.version, name);
  assert.equal(report!.transport, "gloo");
  assert.deepEqual(report!.servers, [first.url, second.url]);
  for (const server of [first, second]) assert.equal(server.stats.weightVersion, name);
});

Deno.test("sync: a folder without weights ends with 2 and changes nothing", async () => {
  await using server = await startTiny();
  const { code, err } = await run(["sync", "/nowhere", "-s", server.url]);
  assert.equal(code, 2);
  assert.match(err, /nowhere/);
  assert.equal(server.stats.weightVersion, "default");
});

/** What a server holds, by name. */
async function checksums(server: EmbeddedServer): Promise<Record<string, string>> {
  const { body } = await post(server, "/weights_checker", { action: "checksum" });
  const { ranks } = body as unknown as { ranks: { checksums: Record<string, string> }[] };
  return ranks[0]!.checksums;
}

Deno.test("sync --only pushes the weights with such names and keeps the others", async () => {
  await using server = await startTiny({ version: "0.5.23" });
  const [first, second] = [await tinyCheckpoint({ seed: 1 }), await tinyCheckpoint({ seed: 2 })];
  const sync = (...args: string[]) => run(["sync", "-s", server.url, "--json", ...args]);
  assert.equal((await sync(first, "--weight-version", "1")).code, 0);
  const before = await checksums(server);
  const only = ["--only", "model.layers.0.*", "--only", "lm_head*"];
  const [plan] = jsonLines((await sync(second, ...only, "--dry-run")).out);
  const done = await sync(second, ...only, "--weight-version", "2");
  assert.equal(done.code, 0, done.err);
  const [report] = jsonLines(done.out);
  assert.equal(report!.tensors, plan!.tensors);
  assert.deepEqual(report!.only, ["model.layers.0.*", "lm_head*"]);
  assert.equal(report!.base_version, "1");
  const mixed = await checksums(server);
  assert.equal((await sync(second)).code, 0);
  const [whole, old] = [await checksums(server), before];
  for (const name of Object.keys(old)) {
    const isOfPart = /^(model\.layers\.0\.|lm_head)/.test(name);
    assert.equal(mixed[name], (isOfPart ? whole : old)[name], name);
  }
  const wrong = await sync(second, "--only", "no.such.*");
  assert.equal(wrong.code, 2);
  assert.match(wrong.err, /no weight of .* has such a name/);
  assert.equal((await sync(second, "--rollback", ...only)).code, 2);
});

Deno.test("sync --watch pushes what is there and every newer checkpoint, until Ctrl-C", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await makeTinyCheckpoint(join(folder, "step-1"), { seed: 1 });
    await using server = await startTiny();
    const interrupt = new AbortController();
    let pushes = 0;
    const watching = run(
      ["sync", folder, "-s", server.url, "--watch", "--interval", "0.1", "--json"],
      {
        signal: interrupt.signal,
        onOut: () => {
          pushes++;
          if (pushes === 1) makeTinyCheckpoint(join(folder, "step-2"), { seed: 2 });
          else interrupt.abort();
        },
      },
    );
    const { code, out } = await watching;
    assert.equal(code, 130);
    const names = jsonLines(out).map((push) => String(push.checkpoint).split("/").at(-1));
    assert.deepEqual(names, ["step-1", "step-2"]);
    assert.equal((await get(server, "/model_info")).body.weight_version, "step-2");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("status: one row for each server; 3 when one is paused, which it says", async () => {
  using clock = FakeClock.install({ skipUpToMs: 10 });
  for (const version of ["0.5.16", "0.5.23"] as const) {
    await using server = await startTiny({ healthTimeoutMs: 1000, version });
    const good = await run(["status", "-s", server.url]);
    assert.equal(good.code, 0);
    assert.match(good.out, /^server +health .*\n.* ready /);
    await post(server, "/pause_generation", {});
    let isDone = false;
    const looking = run(["status", "-s", server.url, "--json"]).finally(() => isDone = true);
    while (!isDone) {
      await turns(50);
      await clock.advance(250);
    }
    const paused = await looking;
    assert.equal(paused.code, 3);
    const [state] = jsonLines(paused.out);
    assert.equal(state!.health, "paused", version);
    assert.equal(state!.weight_version, "default");
    await post(server, "/continue_generation", {});
    const [again] = jsonLines((await run(["status", "-s", server.url, "--json"])).out);
    assert.equal(again!.health, "ready", version);
  }
});

Deno.test("status --watch looks again and again until Ctrl-C", async () => {
  await using server = await startTiny();
  const interrupt = new AbortController();
  const { code, out } = await run(
    ["status", "-s", server.url, "--watch", "--interval", "0.1", "--json"],
    {
      signal: interrupt.signal,
      onOut: (text) => {
        if (text.split("\n").length > 3) interrupt.abort();
      },
    },
  );
  assert.equal(code, 130);
  assert.ok(jsonLines(out).length >= 3);
});

Deno.test("bench counts all tokens", async () => {
  await using server = await startTiny();
  const args = ["bench", "-s", server.url, "--prompts", "6", "-m", "7", "--rounds", "2"];
  const table = await run(args);
  assert.equal(table.code, 0);
  assert.match(table.out, /tokens\/s/);
  const [report] = jsonLines<{ rounds: { tokens: number }[] }>(
    (await run([...args, "--json"])).out,
  );
  assert.deepEqual(report!.rounds.map(({ tokens }) => tokens), [42, 42]);
});

Deno.test("serve --embedded serves until Ctrl-C and stops cleanly", async () => {
  const interrupt = new AbortController();
  const ready = Promise.withResolvers<string>();
  const serving = run(["serve", "--embedded", "-n", "2", "--json"], {
    signal: interrupt.signal,
    onOut: ready.resolve,
  });
  const { url, servers } = JSON.parse(await ready.promise) as { url: string; servers: string[] };
  assert.equal(servers.length, 2);
  const { code, out } = await run(["generate", "Hello", "-s", url, "-m", "2"]);
  assert.equal(code, 0);
  assert.match(out, /2 tokens/);
  interrupt.abort();
  assert.equal((await serving).code, 130);
  await assert.rejects(fetch(url), TypeError);
});

Deno.test("serve without a model says what to give", async () => {
  const { code, err } = await run(["serve"]);
  assert.equal(code, 2);
  assert.match(err, /--embedded/);
});

Deno.test("doctor: each finding tells what to do, and a dead server is broken", async () => {
  await using server = await startTiny();
  const good = await run(["doctor", "-s", server.url, "--json", "--port", "10998"]);
  const findings = jsonLines<{ what: string; state: string; detail: string; advice: string }>(
    good.out,
  );
  const about = (what: string) => findings.find((finding) => finding.what.startsWith(what))!;
  assert.equal(about("Deno").state, "fine");
  assert.match(about("server").detail, /0\.5\.16, a test double/);
  for (const { state, advice, what } of findings) {
    assert.ok(state === "fine" || advice.length > 0, `${what} has no advice`);
  }
  const bad = await run(["doctor", "-s", "http://127.0.0.1:10999", "--port", "60000"]);
  assert.equal(bad.code, 3);
  assert.equal((await run(["doctor", "--port", "60000"])).code, 1);
  assert.match(bad.out, /BROKEN {2}port 60000: .*\n +-> take one of at most 55535/);
  assert.match(bad.out, /BROKEN {2}server http:\/\/127\.0\.0\.1:10999/);
});

Deno.test("sync --rollback goes back by step, past what is not whole; --dry-run changes nothing", async () => {
  const folder = await Deno.makeTempDir();
  try {
    for (const step of [1, 2, 10]) {
      await makeTinyCheckpoint(join(folder, `step-${step}`), { seed: step });
    }
    await Deno.mkdir(join(folder, "step-9"));
    await Deno.writeTextFile(join(folder, "step-9/model.safetensors"), "torn");
    await using server = await startTiny();
    const sync = (...args: string[]) => run(["sync", "-s", server.url, "--json", ...args]);
    const unknown = await sync(folder, "--rollback");
    assert.equal(unknown.code, 2);
    assert.match(unknown.err, /name no step/);
    assert.equal((await sync(join(folder, "step-10"))).code, 0);
    const planned = await sync(folder, "--rollback", "--dry-run");
    assert.equal(planned.code, 0, planned.err);
    const [plan] = jsonLines(planned.out);
    assert.equal(plan!.checkpoint, join(folder, "step-2"));
    assert.deepEqual(plan!.servers, [{
      server: server.url,
      tp_size: 1,
      weight_version: "step-10",
    }]);
    assert.equal(server.stats.weightVersion, "step-10");
    assert.equal((await sync(folder, "--rollback", "2")).code, 0);
    assert.equal(server.stats.weightVersion, "step-1");
    const tooFar = await sync(folder, "--rollback");
    assert.equal(tooFar.code, 2);
    assert.match(tooFar.err, /0 whole checkpoint\(s\) before step 1/);
    assert.equal((await sync(folder, "--rollback", "--watch")).code, 2);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
