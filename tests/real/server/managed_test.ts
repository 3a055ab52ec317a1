import assert from "node:assert/strict";
import { join } from "node:path";
import { CrashedError, TimeoutError } from "../../../src/errors.ts";
import { leftOf, treeOf } from "../../_support/processes.ts";
import { seenKeys } from "../../_support/seen_keys.ts";
import { modelPath, pythonOf, startRealServer } from "../../_support/real.ts";

Deno.test("a managed server is ready when it is handed out, and gone when it is stopped", async (t) => {
  const folder = await Deno.makeTempDir();
  const apiKey = "key-that-must-not-be-logged";
  const adminApiKey = "key-of-an-admin-that-must-not-be-seen";
  const logged: string[] = [];
  const progress: number[] = [];
  const seenEarly: Promise<string[]>[] = [];
  try {
    await using server = await startRealServer({
      apiKey,
      adminApiKey,
      logFile: join(folder, "server.log"),
      onLog: (line) => logged.push(line),
      onProgress: ({ elapsedMs }) => {
        progress.push(elapsedMs);
        seenEarly.push(seenKeys({ apiKey, adminApiKey }));
      },
    });
    const tree = await treeOf(server.pid);

    await t.step("it generates at once", async () => {
      const response = await fetch(`${server.url}/generate`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${apiKey}` },
        body: JSON.stringify({ text: "Hello", sampling_params: { max_new_tokens: 5 } }),
      });
      assert.equal(response.status, 200);
      assert.equal((await response.json()).output_ids.length, 5);
    });
    await t.step("no list of processes shows its keys, nor did one while it started", async () => {
      assert.deepEqual((await Promise.all(seenEarly)).flat(), []);
      assert.deepEqual(await seenKeys({ apiKey, adminApiKey }), []);
      const refused = await fetch(`${server.url}/server_info`);
      await refused.body?.cancel();
      assert.equal(refused.status, 401);
    });
    // case 15
    await t.step("it runs with the sizes that were asked for", async () => {
      const response = await fetch(`${server.url}/server_info`, {
        headers: { authorization: `Bearer ${apiKey}` },
      });
      const info = await response.json();
      assert.equal(info.tp_size, server.tpSize);
      assert.equal(info.dp_size, server.dpSize);
      assert.equal(info.model_path, modelPath("tiny"));
      assert.equal(info.port, server.port);
      assert.ok(server.port <= 55_535 && info.nccl_port <= 55_535);
    });
    await t.step("its health is told while it is paused, without waiting", async () => {
      const post = (path: string) =>
        fetch(server.url + path, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${adminApiKey}` },
          body: "{}",
        }).then((response) => response.body?.cancel());
      await post("/pause_generation");
      try {
        const response = await fetch(`${server.url}/health`, { signal: AbortSignal.timeout(5000) });
        await response.body?.cancel();
        assert.equal(response.status, 200);
      } finally {
        await post("/continue_generation");
      }
    });
    await t.step("its log is in the file and in the callback, without the key", async () => {
      const log = await Deno.readTextFile(server.logFile);
      assert.match(log, /The server is fired up and ready to roll!/);
      assert.ok(logged.some((line) => line.includes("ready to roll")));
      assert.match(log, /api_key='\*\*\*'/);
      assert.ok(!log.includes(apiKey) && !log.includes(adminApiKey));
      assert.ok(!logged.join("\n").includes(apiKey));
    });
    await t.step("progress was told while it loaded", () => assert.ok(progress.length > 1));
    await t.step("stopping ends every process of it", async () => {
      assert.ok(tree.length >= 3, `main, scheduler and detokenizer ran: ${tree}`);
      const exit = await server.stop();
      assert.equal(exit.requested, true);
      assert.deepEqual(await leftOf(tree, { withinMs: 0 }), []);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

// case 16

Deno.test("a model that is not there is a crash report with the log's last lines", async () => {
  const missing = "/no/such/model";
  await assert.rejects(startRealServer({ model: missing, python: pythonOf() }), (error) => {
    assert.ok(error instanceof CrashedError);
    assert.notEqual(error.exitCode, 0);
    assert.match(error.message, /The model was not found: `model` must be a folder/);
    assert.match(error.logTail, /\/no\/such\/model/);
    removeNamedLog(error.message);
    return true;
  });
});

Deno.test("a flag that the version does not know is a crash report that names it", async () => {
  await assert.rejects(
    startRealServer({ args: { noSuchFlag: 3 }, python: pythonOf() }),
    (error) => {
      assert.ok(error instanceof CrashedError);
      assert.match(error.message, /does not know one of the flags/);
      assert.match(error.logTail, /unrecognized arguments: --no-such-flag 3/);
      removeNamedLog(error.message);
      return true;
    },
  );
});

// case 16

Deno.test("a launch that takes too long ends with its last words and leaves nothing", async () => {
  let pid = 0;
  await assert.rejects(
    startRealServer({ readyTimeoutMs: 4000, python: pythonOf() }),
    (error) => {
      assert.ok(error instanceof TimeoutError);
      assert.equal(error.timeoutMs, 4000);
      assert.match(error.phase, /^wait until SGLang server on port \d+ is ready$/);
      pid = Number(/process (\d+)/.exec(error.peer ?? "")?.[1]);
      return true;
    },
  );
  assert.ok(pid > 0);
  assert.deepEqual(await leftOf([pid], { withinMs: 0 }), []);
});

/** The log of a crash is kept for the user; a test has no use for it. */
function removeNamedLog(message: string): void {
  const path = /The whole log is in (\S+\.log)\./.exec(message)?.[1];
  assert.ok(path, message);
  Deno.removeSync(path);
}
