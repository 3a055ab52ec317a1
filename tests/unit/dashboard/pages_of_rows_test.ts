import assert from "node:assert/strict";
import { openDashboard } from "../../../src/dashboard/mod.ts";
import { RolloutBatch, writeRollout } from "../../../src/collector/mod.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { turns } from "../../_support/clock.ts";
import { rowOf } from "../../_support/rollout_rows.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { rowLine, writeRows } from "./_rows.ts";
import { openRows } from "./_rows_page.ts";

Deno.test("rows are listed by windows, filtered by every field, and searched", async () => {
  await using rows = await openRows(100, [
    rowLine({ dialog: 400, group: 100, reward: -7, finish_reason: "length", stale: true }),
    rowLine({
      dialog: 401,
      group: 101,
      reward: 0.7,
      response: { role: "assistant", content: "no" },
    }),
  ]);
  const total = async (query: string) => (await rows.get(`/api/rows?${query}`)).body.total;
  assert.equal(await total(""), 402);
  assert.equal(await total("group=7"), 4);
  assert.equal(await total("dialog=9"), 1);
  assert.equal(await total("min=3"), 100);
  assert.equal(await total("max=-1"), 1);
  assert.equal(await total("min=0.7&max=0.7"), 1);
  assert.equal(await total("finish=length"), 1);
  assert.equal(await total("stale=yes"), 1);
  assert.equal(await total("stale=no"), 401);
  assert.equal(await total("q=ANSWER%20399"), 1);
  assert.equal(await total("q=say"), 402);
  const { body } = await rows.get("/api/rows?from=398&count=2");
  assert.deepEqual(body.items.map(({ row }: { row: number }) => row), [398, 399]);
  const about = (await rows.get("/api/about")).body.file;
  assert.deepEqual([about.rows, about.dialogs, about.groups], [402, 402, 102]);
});

Deno.test("a row comes with its numbers, its advantage in its group and the turns of its dialog", async () => {
  await using rows = await openRows(1, [
    rowLine({ dialog: 9, group: 9, turn: 0, done: false }),
    rowLine({ dialog: 9, group: 9, turn: 1, parent: 0 }),
    rowLine({ dialog: 9, group: 9, turn: 2, parent: 0, branch: 1 }),
  ]);
  const { body } = await rows.get("/api/row?row=0");
  assert.ok(Math.abs(body.advantage + 1.5 / Math.sqrt(5 / 3)) < 1e-4);
  const branch = (await rows.get("/api/row?row=6")).body;
  assert.deepEqual(
    branch.turns.items.map((one: Record<string, unknown>) => [one.turn, one.parent, one.branch]),
    [[0, null, 0], [1, 0, 0], [2, 0, 1]],
  );
  const group = (await rows.get("/api/group?group=0")).body;
  assert.deepEqual(group.items.map(({ reward }: { reward: number }) => reward), [0, 1, 2, 3]);
});

Deno.test("tokens come with prompt, mask and every number that the file has of them", async () => {
  await using rows = await openRows(1);
  const { body } = await rows.get("/api/tokens?row=0");
  assert.deepEqual([body.total, body.promptTokens, body.texts], [5, 3, null]);
  assert.deepEqual(body.items.slice(2), [
    { id: 3, mask: 0 },
    { id: 10, mask: 1, logProb: Math.fround(-0.1), version: 4, weights: "4" },
    { id: 11, mask: 1, logProb: -3, version: 5, weights: "5" },
  ]);
  const part = (await rows.get("/api/tokens?row=0&from=1&count=2")).body;
  assert.deepEqual([part.total, part.items.map(({ id }: { id: number }) => id)], [5, [2, 3]]);
});

Deno.test("whatever is longer than one answer tells how much there is, and all of it can be reached", async () => {
  const members = Array.from(
    { length: 620 },
    (_, member) => rowLine({ dialog: 1000 + member, group: 900, member, reward: member }),
  );
  const turns = Array.from(
    { length: 1234 },
    (_, turn) => rowLine({ dialog: 5000, group: 901, turn, parent: turn === 0 ? null : turn - 1 }),
  );
  const ids = Array.from({ length: 9001 }, (_, id) => id);
  const content = "x".repeat(50_000);
  const large = rowLine({
    dialog: 6000,
    group: 902,
    prompt_ids: ids,
    response_ids: ids,
    log_probs: ids.map(() => -1),
    token_versions: ids.map(() => 1),
    messages: Array.from({ length: 333 }, (_, i) => ({ role: "user", content: `${i} ${content}` })),
    response: { role: "assistant", content },
    info: { content },
  });
  await using rows = await openRows(0, [...members, ...turns, large]);
  const row = members.length + turns.length;
  const all = async (path: string) => {
    const found: Record<string, unknown>[] = [];
    for (;;) {
      const { body } = await rows.get(`${path}&from=${found.length}`);
      assert.ok(body.items.length > 0);
      found.push(...body.items);
      if (found.length === body.total) return found;
    }
  };
  assert.deepEqual((await all("/api/group?group=900")).map(({ member }) => member), [
    ...members.keys(),
  ]);
  assert.deepEqual((await all("/api/turns?row=700")).map(({ turn }) => turn), [...turns.keys()]);
  assert.deepEqual((await all(`/api/tokens?row=${row}`)).map(({ id }) => id), [...ids, ...ids]);
  const messages = await all(`/api/messages?row=${row}`);
  assert.equal(messages.length, 334);
  assert.deepEqual(
    [messages.at(-2)!.length, (messages.at(-2)!.text as string).length],
    [50_004, 20_000],
  );
  const text = async (part: string) =>
    (await rows.get(`/api/text?row=${row}&part=${part}`)).body.text;
  assert.equal(await text("332"), `332 ${content}`);
  assert.equal(await text("333"), content);
  assert.deepEqual(JSON.parse(await text("info")), { content });
  assert.equal((await rows.get(`/api/text?row=${row}&part=334`)).status, 400);
  const { body: shown } = await rows.get(`/api/row?row=${row}`);
  assert.deepEqual([shown.messages.total, shown.messages.from, shown.info.length > 20_000], [
    334,
    234,
    true,
  ]);
});

Deno.test("a row of megabytes is not sent unasked, and not twice when it is asked for", async () => {
  const content = "y".repeat(3_000_000);
  await using rows = await openRows(1, [
    rowLine({ dialog: 9, group: 9, response: { role: "assistant", content } }),
  ]);
  for (const path of ["/api/row?row=4", "/api/group?group=9", "/api/rows", "/api/tokens?row=4"]) {
    const answer = await fetch(new URL(path, rows.page.url));
    assert.ok((await answer.text()).length < 100_000, path);
  }
  const answer = await fetch(new URL("/api/text?row=4&part=1", rows.page.url));
  assert.ok((await answer.text()).length < content.length + 1000);
});

Deno.test("a broken line is told with its number, and every other row is there", async () => {
  await using rows = await openRows(2, [
    "",
    '{"schema": "sglang-rl.rollout/2", "dialog":',
    rowLine({ dialog: 8, group: 7, reward: 1e300 }).replace("1e+300", "1e999"),
    rowLine({ dialog: 9, group: 7, info: "no object" }),
  ]);
  const { file } = (await rows.get("/api/about")).body;
  assert.deepEqual([file.rows, file.dialogs, file.damaged.count], [11, 9, 2]);
  const [first, second] = file.damaged.first;
  assert.match(first.message, /rows\.jsonl, line 10 is not JSON/);
  assert.match(second.message, /rows\.jsonl, line 12: info should be an object/);
  const list = (await rows.get("/api/rows?from=8")).body.items;
  assert.match(list[0].damage, /line 10/);
  assert.deepEqual([list[1].dialog, list[1].reward], [8, "Infinity"]);
  assert.equal((await rows.get("/api/row?row=9")).body.advantage, null);
  const refused = await rows.get("/api/row?row=8");
  assert.deepEqual([refused.status, refused.body.error], [400, first.message]);
  assert.equal((await rows.get("/api/rows?damaged=yes")).body.total, 2);
  assert.equal((await rows.get("/api/rows?damaged=no")).body.total, 9);
  assert.equal((await rows.get("/api/rows?min=-5")).body.total, 9);
  assert.equal((await rows.get("/api/rows?q=answer%207")).body.total, 1);
  const lines = await (await fetch(new URL("/api/export", rows.page.url))).text();
  assert.equal(lines.trimEnd().split("\n").length, 9);
});

Deno.test("tries of a dialog are one dialog, and only the last one counts", async () => {
  await using rows = await openRows(1, [
    rowLine({ dialog: 50, group: 20, reward: 100, done: false }),
    rowLine({ dialog: 51, group: 20, member: 1, reward: 1 }),
    rowLine({ dialog: 50, group: 20, attempt: 2, reward: 2, done: false }),
    rowLine({ dialog: 50, group: 20, attempt: 2, turn: 1, parent: 0, reward: 1 }),
    rowLine({ dialog: 50, group: 20, attempt: 1, reward: 50, done: false }),
  ]);
  const { file } = (await rows.get("/api/about")).body;
  assert.deepEqual([file.dialogs, file.attempts, file.groups], [6, 8, 2]);
  assert.equal(file.meanReward, (0 + 1 + 2 + 3 + 1 + 3) / 6);
  const { items } = (await rows.get("/api/group?group=20")).body;
  assert.deepEqual(
    items.map((one: Record<string, unknown>) => [
      one.dialog,
      one.attempt,
      one.turns,
      one.reward,
      one.wasRunAnew,
      one.advantage === null,
    ]),
    [[50, 0, 1, 100, true, true], [50, 1, 1, 50, true, true], [50, 2, 2, 3, false, false], [
      51,
      0,
      1,
      1,
      false,
      false,
    ]],
  );
  const { body } = await rows.get("/api/row?row=7");
  assert.deepEqual(body.turns.items.map(({ row }: { row: number }) => row), [6, 7]);
});

Deno.test("a row's place among the filtered ones is told, and that it is not there", async () => {
  await using rows = await openRows(10);
  const place = async (query: string) => (await rows.get(`/api/place?${query}`)).body.at;
  assert.equal(await place("row=7"), 7);
  assert.equal(await place("row=38&min=2"), 18);
  assert.equal(await place("row=38&min=3"), -1);
  assert.equal((await rows.get("/api/place?row=40")).status, 400);
});

Deno.test("text is searched as it is written, also what JSON would write otherwise", async () => {
  await using rows = await openRows(1, [
    rowLine({
      dialog: 9,
      group: 9,
      messages: [{ role: "user", content: 'say "hi"\nthere' }, {
        role: "assistant",
        content: null,
        tool_calls: [{ function: { name: "weather", arguments: "{}" } }],
      }],
    }),
  ]);
  const total = async (text: string) =>
    (await rows.get(`/api/rows?q=${encodeURIComponent(text)}`)).body.total;
  assert.equal(await total('"HI"\nthere'), 1);
  assert.equal(await total("weather"), 1);
});

Deno.test("a selection is exported as JSON lines", async () => {
  await using rows = await openRows(5);
  const answer = await fetch(new URL("/api/export?group=2", rows.page.url));
  const lines = (await answer.text()).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ dialog }) => dialog), [8, 9, 10, 11]);
  assert.match(answer.headers.get("content-disposition")!, /attachment/);
  await using folder = await temporaryFolder();
  const path = `${folder.path}/selection.jsonl`;
  await Deno.writeTextFile(path, lines.map((line) => JSON.stringify(line) + "\n").join(""));
  await using again = await readRollout(path);
  assert.equal(again.length, 4);
});

Deno.test("a file of safetensors is shown by its ids and answers, and says that it has no messages", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.safetensors`;
  await writeRollout(
    path,
    new RolloutBatch({
      rows: [rowOf(3, { response: { role: "assistant", content: "yes" } })],
      shape: [1],
    }),
  );
  await using page = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows.safetensors" },
    tokenTexts: (ids) => ids.map((id) => `<${id}>`),
  });
  const get = async (path: string) => await (await fetch(new URL(path, page.url))).json();
  const row = await get("/api/row?row=0");
  assert.deepEqual([row.hasMessages, row.messages.items[0].text], [false, "yes"]);
  const { items, texts } = await get("/api/tokens?row=0");
  assert.deepEqual(texts, items.map(({ id }: { id: number }) => `<${id}>`));
});

Deno.test("an exported row is the line of the file, also what no schema knows and no number of JSON is", async () => {
  const bytes = new Uint8Array(Int32Array.of(1, 2, 3, 4).buffer);
  const written = rowLine({
    log_probs: [-0.5, null],
    token_versions: [null, "step-1"],
    routed_experts: { start: 0, tokens: 2, per_token: 2, data: bytes.toBase64() },
    my_column: [1, { a: null }],
    reward: 7,
  }).replace('"reward":7', '"reward": 1e999');
  await using rows = await openRows(0, [written, "{broken", rowLine({ dialog: 1 })]);
  const answer = await fetch(new URL("/api/export", rows.page.url));
  assert.equal(await answer.text(), `${written}\n${rowLine({ dialog: 1 })}\n`);
});

/** A blob that counts how often it is read, after it is told to. */
class SlowBlob extends Blob {
  reads = -Infinity;
  readonly begun = Promise.withResolvers<void>();

  override slice(start?: number, end?: number): Blob {
    const part = super.slice(start, end);
    return {
      arrayBuffer: async () => {
        if (++this.reads === 5) this.begun.resolve();
        // Lets the server hear of whoever leaves.
        await new Promise((resolve) => setImmediate(resolve));
        return await part.arrayBuffer();
      },
    } as Blob;
  }
}

Deno.test("of a file that is cut while it is looked at, the list says why it is not there", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, 10);
  await using page = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows.jsonl" },
  });
  await Deno.truncate(path, 100);
  for (const question of ["rows?q=answer", "place?row=1&q=answer"]) {
    const { error } = await (await fetch(new URL(`/api/${question}`, page.url))).json();
    assert.match(error, /became shorter while it was read/);
  }
});

Deno.test("whoever leaves ends the work on the answer: list, place and export", async () => {
  const lines = Array.from({ length: 20_000 }, (_, dialog) => rowLine({ dialog, messages: [] }));
  const blob = new SlowBlob([lines.join("\n")]);
  await using page = await openDashboard({
    file: { rollouts: await readRollout(blob), name: "rows.jsonl" },
  });
  for (
    const path of ["/api/rows?q=nothing1", "/api/place?row=1&q=nothing2", "/api/export?q=nothing3"]
  ) {
    blob.reads = 0;
    const leaving = new AbortController();
    const left = fetch(new URL(path, page.url), { signal: leaving.signal })
      .then((answer) => answer.text());
    left.catch(() => {});
    await new Promise<void>((resolve) => {
      const look = () => blob.reads >= 5 ? resolve() : void setImmediate(look);
      look();
    });
    leaving.abort();
    await assert.rejects(left);
    // It is over when nothing is read any more.
    for (let before = -1; before !== blob.reads;) {
      before = blob.reads;
      await turns(50);
    }
    assert.ok(blob.reads < 120, `${path} read on: ${blob.reads} times`);
  }
});

Deno.test("content of parts is shown as its texts, and what else it has below", async () => {
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } };
  await using rows = await openRows(0, [
    rowLine({
      messages: [
        { role: "user", content: [{ type: "text", text: "Look:" }, image, { text: "Well?" }] },
        { role: "user", content: [{ type: "text", text: "plain" }] },
      ],
      response: { role: "assistant", content: [{ type: "text", text: "A cat", score: 1 }] },
    }),
  ]);
  const { items } = (await rows.get("/api/messages?row=0&from=0")).body;
  assert.equal(items[0].text, "Look:\n[image_url]\nWell?");
  assert.deepEqual(JSON.parse(items[0].more.text), { content: [image] });
  assert.deepEqual([items[1].text, items[1].more.text], ["plain", ""]);
  assert.equal(items[2].text, "A cat");
  assert.match(items[2].more.text, /"score": 1/);
  assert.equal((await rows.get("/api/rows?q=base64,AAAA")).body.total, 1);
});
