import assert from "node:assert/strict";
import { openDashboard } from "../../src/dashboard/mod.ts";
import { readRollout } from "../../src/rollout_file/mod.ts";
import { temporaryFolder } from "../_support/temporary_folder.ts";
import { rowLine, writeRows } from "../unit/dashboard/_rows.ts";
import {
  openBrowser,
  openPage,
  type PageDocument,
  type PageElement,
  type PageStyle,
  picture,
  show,
  textOf,
  violations,
} from "./_browser.ts";

declare const document: PageDocument;
declare const getComputedStyle: PageStyle;

const key = "a-key-of-the-dashboard";

Deno.test("trajectories: filters, hover, tree, groups, and a script in an answer stays text", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  const evil = `<script>globalThis.hacked = 1</script><img src=x onerror="globalThis.hacked = 1">`;
  await writeRows(path, 50, [
    rowLine({
      dialog: 200,
      group: 50,
      response: { role: "assistant", content: evil },
      messages: [{ role: "user", content: evil }],
      info: { evil },
      server: evil,
    }),
    rowLine({ dialog: 201, group: 51, done: false }),
    rowLine({ dialog: 201, group: 51, turn: 1, parent: 0 }),
    rowLine({ dialog: 201, group: 51, turn: 2, parent: 0, branch: 1 }),
  ]);
  const texts = new Map([[10, " hello"], [11, "\n"]]);
  await using dashboard = await openDashboard({
    file: { rollouts: await readRollout(path), name: `rows<b>.jsonl` },
    tokenTexts: (ids) => ids.map((id) => texts.get(id) ?? "?"),
  });
  await using opened = await openBrowser();
  const { page, complaints } = await openPage(opened.browser, dashboard.url);
  await page.waitForSelector("#list .line");
  assert.match(await textOf(page, "#found"), /204 rows/);

  await page.type('[name="q"]', "onerror");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "1 row");
  await page.click("#list .line");
  await page.waitForSelector("#row .tokens");
  assert.ok((await textOf(page, "#row")).includes("<script>globalThis.hacked"));
  assert.equal(await page.evaluate(() => "hacked" in globalThis), false);
  assert.equal(
    await page.evaluate(() => document.querySelectorAll("#row script, #row img").length),
    0,
  );

  await page.waitForSelector('#row .tokens [data-i="3"]');
  assert.match(await textOf(page, "#row"), /All 5 tokens: 3 of the prompt, 2 sampled/);
  await page.hover('#row .tokens [data-i="3"]');
  await page.waitForFunction(() => document.querySelector("#token")!.textContent.includes("id 10"));
  const told = await textOf(page, "#token");
  for (const part of ["log-prob -0.1", "version 4", "weights 4", "mask 1", '" hello"']) {
    assert.ok(told.includes(part), told);
  }
  await page.focus("#row .tokens");
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.querySelector("#token")!.textContent.includes("id 11"));
  assert.equal(await textOf(page, "#row .tokens"), "???·hello↵\n");
  for (
    const [by, differ] of [["logprob", [3, 4]], ["version", [3, 4]], ["mask", [2, 3]]] as const
  ) {
    await page.select("#colour", by);
    const shades = await page.$$eval(
      "#row .tokens [data-i]",
      (spans) => spans.map((span) => getComputedStyle(span).backgroundColor),
    );
    assert.notEqual(shades[differ[0]], shades[differ[1]], by);
    assert.deepEqual(await violations(page), [], by);
  }
  assert.match(await textOf(page, "#row .legend"), /sampled, counts.*prompt, does not/);
  await picture(page, "row");

  await page.$eval('[name="q"]', (input) => (input as unknown as PageElement).value = "");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "204 rows");
  await page.type("#jump", "203");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 203");
  await page.waitForSelector('#line-203[aria-selected="true"]');
  assert.deepEqual(
    await page.$$eval("#row .tree button", (all) => all.map((one) => one.textContent)),
    [
      "turn 0, branch 0, reward 1, 2 tokens",
      "turn 1, branch 0, reward 1, 2 tokens",
      "turn 2, branch 1, reward 1, 2 tokens, goes on from turn 0",
    ],
  );
  const [fork, first, second] = await page.$$eval(
    "#row .tree button",
    (all) =>
      all.map((one) => Math.round((one as unknown as PageElement).getBoundingClientRect().x)),
  );
  assert.ok(fork! < first!, "the branches of the first fork stand further in");
  assert.equal(first, second);
  await show(page, "#row .tree");
  await picture(page, "tree");
  await page.type('[name="group"]', "3");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "4 rows");
  await page.click("#list .line");
  await page.waitForFunction(() => document.querySelectorAll("#row .group > div").length === 4);
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 12");
  // A row that the filter hides is shown, and said to be hidden; nothing typed goes nowhere.
  await page.focus("#jump");
  await page.keyboard.press("Enter");
  assert.equal(await textOf(page, "#row h2"), "Row 12");
  await page.$eval("#jump", (input) => (input as unknown as PageElement).value = "");
  await page.type("#jump", "5");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 5");
  assert.match(await textOf(page, "#jumped"), /Row 5 is not among the filtered rows/);
  assert.match(await textOf(page, "#found"), /^4 rows/);
  await page.click("#list .line");
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 12");
  await show(page, "#row .group");
  await picture(page, "group");
  assert.deepEqual(await violations(page), []);
  assert.deepEqual(complaints, []);
});

Deno.test("what is long is told and comes by a button; what cannot be seen or read is shown", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  const ids = Array.from({ length: 9000 }, (_, id) => id);
  await writeRows(path, 0, [
    ...Array.from(
      { length: 120 },
      (_, member) => rowLine({ dialog: member, group: 1, member, reward: member % 3 }),
    ),
    '{"schema": "sglang-rl.rollout/2", "dialog"',
    rowLine({
      dialog: 500,
      group: 2,
      prompt_ids: ids,
      response_ids: ids,
      log_probs: ids.map(() => -1),
      token_versions: ids.map(() => 1),
      weight_versions: null,
      messages: Array.from({ length: 150 }, (_, i) => ({ role: "user", content: `message ${i}` })),
      response: { role: "assistant", content: `a\u202eb\u200bc ${"z".repeat(30_000)}` },
    }),
  ]);
  await using dashboard = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows\u202e.jsonl" },
  });
  await using opened = await openBrowser();
  const { page, complaints } = await openPage(opened.browser, dashboard.url);
  await page.waitForSelector("#list .line");
  assert.match(await textOf(page, "#file"), /^rows⟨U\+202E⟩\.jsonl: 122 rows/);
  assert.match(await textOf(page, "#damaged"), /1 row of the file cannot be read.*line 121/s);
  await page.select('[name="damaged"]', "yes");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "1 row");
  assert.match(await textOf(page, "#list .damaged"), /line 121 is not JSON/);
  await page.click("#list .line");
  await page.waitForSelector("#row .failed");
  await picture(page, "damaged");
  assert.deepEqual(await violations(page), []);

  const go = async (row: number) => {
    await page.$eval("#jump", (input) => (input as unknown as PageElement).value = "");
    await page.type("#jump", String(row));
    await page.keyboard.press("Enter");
    await page.waitForFunction(
      (title) => document.querySelector("#row h2")?.textContent === title,
      {},
      `Row ${row}`,
    );
  };
  const press = async (text: string) => {
    await page.waitForSelector(`#row button ::-p-text(${text})`);
    await page.click(`#row button ::-p-text(${text})`);
  };
  await go(121);
  await page.waitForSelector("#row .tokens [data-i]");
  assert.match(await textOf(page, "#row"), /a⟨U\+202E⟩b⟨U\+200B⟩c/);
  assert.ok((await page.$$("#row .unseen")).length >= 2);
  assert.match(await textOf(page, "#row"), /Tokens 8,950 to 10,950 of 18,000/);
  await press("Show 2,000 later tokens");
  await page.waitForFunction(() =>
    document.querySelectorAll("#row .tokens [data-i]").length === 4000
  );
  await press("Show 2,000 earlier tokens");
  await page.waitForSelector('#row .tokens [data-i="6950"]');
  await page.hover('#row .tokens [data-i="6950"]');
  await page.waitForFunction(() =>
    document.querySelector("#token")!.textContent.includes("id 6950")
  );
  assert.ok(!(await textOf(page, "#row")).includes("message 49"));
  await press("Show earlier messages, 51 more");
  await page.waitForFunction(() =>
    document.querySelector("#row")!.textContent.includes("message 0")
  );
  await press("Show all 30,006 characters");
  await page.waitForFunction(() =>
    document.querySelector("#row")!.textContent.includes("z".repeat(30_000))
  );
  await go(0);
  await page.waitForFunction(() =>
    document.querySelector("#row")!.textContent.includes("50 of 120")
  );
  await press("Show 70 more");
  await page.waitForFunction(() =>
    document.querySelector("#row")!.textContent.includes("100 of 120 members")
  );
  await press("Show 20 more");
  await page.waitForFunction(() => document.querySelectorAll("#row .group > div").length === 120);
  assert.deepEqual(complaints.filter((one) => !one.includes("status of 400")), []);
});

Deno.test("a selection is exported where a key is needed, too, and the file is the selection", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, 5);
  await using dashboard = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows.jsonl" },
    hostname: "0.0.0.0",
    key,
  });
  await using opened = await openBrowser();
  const url = dashboard.url.replace("0.0.0.0", "127.0.0.1");
  const { page } = await openPage(opened.browser, url);
  const session = await page.createCDPSession();
  await session.send("Browser.setDownloadBehavior", {
    behavior: "allow",
    downloadPath: folder.path,
    eventsEnabled: true,
  });
  await page.waitForSelector("#key-form:not([hidden])");
  await page.type("#key", key);
  await page.click("#key-form button");
  await page.waitForSelector("#list .line");
  await page.type('[name="min"]', "3");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "5 rows");
  const saved = Promise.withResolvers<void>();
  session.on("Browser.downloadProgress", ({ state }) => {
    if (state === "completed") saved.resolve();
  });
  await page.click("#export");
  await saved.promise;
  await using selection = await readRollout(`${folder.path}/selection.jsonl`);
  const rows = await Array.fromAsync(selection);
  assert.deepEqual(rows.map(({ dialog, reward }) => [dialog, reward]), [
    [3, 3],
    [7, 3],
    [11, 3],
    [15, 3],
    [19, 3],
  ]);
});

Deno.test("100,000 rows: the list has only the lines that are seen, to its very end", async () => {
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, 25_000);
  await using dashboard = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows.jsonl" },
  });
  await using opened = await openBrowser();
  const { page, complaints } = await openPage(opened.browser, dashboard.url);
  await page.waitForSelector("#list .line");
  assert.match(await textOf(page, "#found"), /100,000 rows/);
  await page.focus("#list");
  await page.keyboard.press("End");
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 99999");
  assert.ok((await page.$$("#list .line")).length < 100);
  await page.keyboard.press("Home");
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 0");
  // Where nothing that is chosen is seen, keys go on from what is seen.
  const chosen = () =>
    page.evaluate(() => Number(document.querySelector("#row h2")!.textContent.slice(4)));
  await page.$eval(
    "#list",
    (list) => (list as unknown as { scrollTop: number }).scrollTop = 24 * 50_000,
  );
  await page.waitForSelector("#line-50000");
  await page.keyboard.press("PageUp");
  await page.waitForSelector('#list [aria-selected="true"]');
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent !== "Row 0");
  const before = await chosen();
  assert.ok(Math.abs(before - 50_000) < 100, `PageUp led to row ${before}`);
  await page.keyboard.press("PageDown");
  await page.waitForFunction(
    (before) => Number(document.querySelector("#row h2")!.textContent.slice(4)) > before,
    {},
    before,
  );
  assert.ok(await chosen() - before < 100);
  await page.type('[name="q"]', "answer 77777");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "1 row");
  await picture(page, "search");
  assert.deepEqual(complaints, []);
});
