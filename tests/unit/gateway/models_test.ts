/** Policies and adapters by the name that agents give as `model`. */
// deno-lint-ignore-file no-explicit-any
import assert from "node:assert/strict";
import { LoraSyncScheme } from "../../../src/adapters/mod.ts";
import { ValidationError } from "../../../src/errors.ts";
import { RecordingGateway, type ServedModel } from "../../../src/gateway/mod.ts";
import { SGLangWrapper } from "../../../src/policy/mod.ts";
import { testAdapter, testLora } from "../../_support/adapters.ts";
import { tinyCheckpoint } from "../embedded/_support.ts";
import { setup } from "./_support.ts";

const messages = [{ role: "user", content: "Talk" }];

async function ask(
  { baseUrl, key }: { readonly baseUrl: string; readonly key: string },
  model: string,
  given: readonly object[] = messages,
): Promise<{ status: number; body: any }> {
  const response = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({ model, messages: given, temperature: 0 }),
  });
  return { status: response.status, body: await response.json() };
}

async function listed({ url }: RecordingGateway, key: string, part = ""): Promise<any> {
  const headers = { authorization: `Bearer ${key}` };
  return await (await fetch(`${url}/v1/models${part}`, { headers })).json();
}

Deno.test("adapters and policies answer by their names, and rows carry the adapter's version", async () => {
  await using it = await setup({ server: { lora: testLora } });
  await using sender = new LoraSyncScheme({ engine: it.engine }).createSender();
  const short = new SGLangWrapper(it.engine, { generateKwargs: { maxNewTokens: 3 } });
  await using gateway = await RecordingGateway.listen(it.policy, {
    models: {
      base: it.policy,
      short,
      left: { lora: "left" },
      right: { lora: "right" },
      "left, the first": { lora: "left@1" },
    },
  });
  const session = gateway.open();
  const missing = await ask(session, "left");
  assert.deepEqual([missing.status, missing.body.error.code, missing.body.error.param], [
    404,
    "model_not_found",
    "model",
  ]);
  const model = await tinyCheckpoint();
  for (const [seed, name] of [[1, "left"], [2, "right"], [3, "left"]] as const) {
    await sender.updateAdapter(await testAdapter(model, { seed }), { name });
  }
  const names = ["base", "short", "left", "right", "left, the first"];
  const { data } = await listed(gateway, session.key);
  assert.deepEqual(data.map(({ id, root }: any) => [id, root]), [
    ["base", undefined],
    ["short", undefined],
    ["left", "left@2"],
    ["right", "right@1"],
    ["left, the first", "left@1"],
  ]);
  assert.equal((await listed(gateway, session.key, "/right")).root, "right@1");
  assert.equal((await listed(gateway, session.key, "/middle")).error.code, "model_not_found");
  for (const name of names) assert.equal((await ask(session, name)).status, 200);
  assert.equal((await ask(session, "middle")).status, 404);
  const { rows } = await session.end();
  assert.deepEqual(
    rows.map(({ info, weightVersions }) => [info.model, weightVersions![0]!.version]),
    [
      ["base", "default"],
      ["short", "default"],
      ["left", "left@2"],
      ["right", "right@1"],
      ["left, the first", "left@1"],
    ],
  );
  assert.equal(rows[1]!.responseIds.length, 3);
  const said = rows.map(({ responseIds }) => String(responseIds));
  assert.equal(new Set(said).size, names.length);
});

Deno.test("a conversation that another model goes on with is a branch of its own", async () => {
  await using it = await setup();
  const generateKwargs = { ...it.policy.options.generateKwargs, temperature: 0.5 };
  const other = new SGLangWrapper(it.engine, { generateKwargs });
  await using gateway = await RecordingGateway.listen(it.policy, {
    models: { one: it.policy, other },
  });
  const session = gateway.open();
  const history: object[] = [...messages];
  for (const model of ["one", "other", "one", "other"]) {
    const { body } = await ask(session, model, history);
    history.push(body.choices[0].message, { role: "user", content: "More" });
  }
  const { rows } = await session.end();
  // Each sees the other's words as words; its own go on from their ids where nothing lies between.
  assert.equal(rows[0]!.parent, null);
  assert.equal(rows[1]!.parent, null);
  for (const [index, { branch }] of rows.entries()) {
    const names = rows.filter((row) => row.branch === branch).map(({ info }) => info.model);
    assert.equal(new Set(names).size, 1, `branch of turn ${index} has two models`);
  }
});

Deno.test("what is no model is refused when the gateway is made", async () => {
  await using it = await setup();
  for (const models of [{}, { a: {} }, { a: { lora: "" } }, { a: "left" }]) {
    await assert.rejects(
      RecordingGateway.listen(it.policy, {
        models: models as unknown as Record<string, ServedModel>,
      }),
      ValidationError,
    );
  }
});

Deno.test("a session over HTTP may say which group and member it is", async () => {
  await using it = await setup();
  const opened = await fetch(`${it.gateway.url}/sessions`, {
    method: "POST",
    body: JSON.stringify({ group: 4, member: 2 }),
  });
  const { id, key, base_url: baseUrl } = await opened.json();
  await ask({ baseUrl, key }, "m");
  const headers = { authorization: `Bearer ${key}` };
  const url = `${it.gateway.url}/sessions/${id}/end`;
  const { rows } = await (await fetch(url, { method: "POST", headers, body: "{}" })).json();
  assert.deepEqual([rows[0].group, rows[0].member], [4, 2]);
});
