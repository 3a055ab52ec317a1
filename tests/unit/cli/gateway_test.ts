import assert from "node:assert/strict";
import { until } from "../../_support/clock.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { startTiny } from "../embedded/_support.ts";
import { jsonLines, run } from "./_support.ts";

Deno.test("gateway serves agents until Ctrl-C, tells of each session and records its rows", async () => {
  await using server = await startTiny();
  await using folder = await temporaryFolder();
  const record = `${folder.path}/sessions.jsonl`;
  const interrupt = new AbortController();
  let said = "";
  const args = ["gateway", "-s", server.url, "--record", record, "--json"];
  const serving = run(args, { signal: interrupt.signal, onErr: (err) => said = err });
  await until(() => /Gateway at \S+;/.test(said));
  const url = /Gateway at (\S+);/.exec(said)![1]!;
  const post = async (address: string, body: unknown, key = "") => {
    const response = await fetch(address, {
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify(body),
    });
    return await response.json();
  };
  const session = await post(`${url}/sessions`, { info: { task: 3 } });
  const messages = [{ role: "user", content: "Hello" }];
  await post(`${session.path_url}/chat/completions`, { model: "m", messages, max_tokens: 4 });
  await post(`${url}/sessions/${session.id}/reward`, { reward: 2 }, session.key);
  await post(`${url}/sessions/${session.id}/end`, {}, session.key);
  interrupt.abort();
  const { out, err } = await serving;
  const [line] = jsonLines(out);
  assert.deepEqual([line?.session, line?.turns, line?.reward], [session.id, 1, 2]);
  assert.match(err, /Stopping/);
  const [row] = jsonLines(await Deno.readTextFile(record));
  assert.equal(row?.schema, "sglang-rl.rollout/2");
  assert.equal((row?.info as { task: number }).task, 3);
});

Deno.test("gateway serves adapters by the names that are given, and refuses others", async () => {
  await using server = await startTiny();
  const interrupt = new AbortController();
  let said = "";
  const adapters = ["--model-name", "base", "--adapter", "left", "--adapter", "old=left@3"];
  const args = ["gateway", "-s", server.url, ...adapters];
  const serving = run(args, { signal: interrupt.signal, onErr: (err) => said = err });
  await until(() => /Gateway at \S+;/.test(said));
  const url = /Gateway at (\S+);/.exec(said)![1]!;
  const opened = await fetch(`${url}/sessions`, { method: "POST" });
  const { key } = await opened.json();
  const headers = { authorization: `Bearer ${key}` };
  const { data } = await (await fetch(`${url}/v1/models`, { headers })).json();
  assert.deepEqual(data.map(({ id }: { id: string }) => id), ["base", "left", "old"]);
  const statuses = await Promise.all(["base", "left", "other"].map(async (model) => {
    const messages = [{ role: "user", content: "Hello" }];
    const body = JSON.stringify({ model, messages, max_tokens: 2 });
    const response = await fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body });
    await response.body?.cancel();
    return response.status;
  }));
  // No server has the adapter yet.
  assert.deepEqual(statuses, [200, 404, 404]);
  interrupt.abort();
  await serving;
  for (
    const wrong of [["--adapter", "="], ["--adapter", "a", "--adapter", "a"], [
      "--adapter",
      "policy",
    ]]
  ) {
    const { code, err } = await run(["gateway", "-s", server.url, ...wrong]);
    assert.notEqual(code, 0);
    assert.match(err, /adapter/i);
  }
});
