import assert from "node:assert/strict";
import axe from "axe-core";
import type { Page } from "puppeteer-core";
import { actionsOf, openDashboard } from "../../src/dashboard/mod.ts";
import { readRollout } from "../../src/rollout_file/mod.ts";
import { Monitor } from "../../src/telemetry/mod.ts";
import { temporaryFolder } from "../_support/temporary_folder.ts";
import { rowLine, writeRows } from "../unit/dashboard/_rows.ts";
import { openTraining } from "../unit/telemetry/_training.ts";
import { openBrowser, openPage, textOf } from "./_browser.ts";

/** What functions that run in the page see of it. */
interface PageElement {
  readonly textContent: string;
  value: string;
}
declare const document: {
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): Iterable<PageElement> & { readonly length: number };
};
declare const getComputedStyle: (element: unknown) => { readonly backgroundColor: string };

const key = "a-key-of-the-dashboard";
/** Folder for the pictures of the docs; none are made without it. */
const pictures = Deno.env.get("PICTURES");

async function picture(page: Page, name: string): Promise<void> {
  if (pictures !== undefined) await page.screenshot({ path: `${pictures}/${name}.png` as const });
}

/** What axe-core finds, in words. */
async function violations(page: Page): Promise<string[]> {
  // Beside the page's own policy, which lets no script in.
  await page.evaluate(axe.source);
  return await page.evaluate(async () => {
    // deno-lint-ignore no-explicit-any
    const found = await (globalThis as any).axe.run();
    return found.violations.map((one: { id: string; nodes: { html: string }[] }) =>
      `${one.id}: ${one.nodes.map(({ html }) => html).join(" ")}`
    );
  });
}

Deno.test("a run is seen as it goes: fleet, sync, rollouts, curves, events, buttons", async () => {
  await using training = await openTraining();
  using monitor = new Monitor(training);
  await using dashboard = await openDashboard({
    monitor,
    actions: actionsOf(training.engine),
    key,
    everyMs: 100,
  });
  await using opened = await openBrowser();
  const { page, complaints } = await openPage(opened.browser, dashboard.url);
  await page.waitForSelector("#servers li.serving");
  assert.equal((await page.$$("#servers li")).length, 2);
  assert.match(await textOf(page, "#sync"), /No sync yet/);
  for (let i = 0; i < 3; i++) {
    await training.step();
    monitor.record("mismatch_k3", 0.01 * i);
  }
  await page.waitForFunction(() =>
    document.querySelector("#sync")!.textContent.includes("version 3")
  );
  await page.waitForFunction(() => document.querySelectorAll("#curves figure").length >= 3);
  const shown = await textOf(page, "#rollouts");
  assert.match(shown, new RegExp(`rows given out${training.collector.stats.rowsYielded}`));
  await page.select("#event-kind", "sync");
  await page.waitForFunction(() =>
    [...document.querySelectorAll("#events li")].every((one) =>
      one.textContent.includes("  sync  ")
    )
  );
  const syncs = await page.$$("#events li");
  assert.ok(syncs.length >= 6);
  await page.type("#event-text", "version 2");
  await page.waitForFunction(() => document.querySelectorAll("#events li").length === 1);
  await picture(page, "live");
  assert.deepEqual(await violations(page), []);

  await page.type("#key", key);
  await page.click("#key-form button");
  await page.click("#buttons button");
  await page.waitForFunction(() => document.querySelector("#said")!.textContent === "pause: done");
  assert.ok(training.servers.every(({ stats }) => stats.paused));
  await page.click("#buttons button:nth-child(2)");
  await page.waitForFunction(() => document.querySelector("#said")!.textContent === "resume: done");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  assert.deepEqual(await violations(page), []);
  await picture(page, "live_dark");
  assert.deepEqual(complaints, []);
});

Deno.test("a lost connection is told and comes back by itself", async () => {
  using monitor = new Monitor({});
  const first = await openDashboard({ monitor, everyMs: 100 });
  await using opened = await openBrowser();
  const { page } = await openPage(opened.browser, first.url);
  const says = (text: string) =>
    page.waitForFunction(
      (text) => document.querySelector("#connection")!.textContent.includes(text),
      { timeout: 15_000 },
      text,
    );
  await says("live");
  await first[Symbol.asyncDispose]();
  await says("lost");
  monitor.note("while nobody was there");
  await using _second = await openDashboard({
    monitor,
    port: Number(new URL(first.url).port),
    everyMs: 100,
  });
  await says("live");
  await page.waitForFunction(() =>
    document.querySelector("#events")!.textContent.includes("while nobody was there")
  );
});

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
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "1 rows");
  await page.click("#list .line");
  await page.waitForSelector("#row .tokens");
  assert.ok((await textOf(page, "#row")).includes("<script>globalThis.hacked"));
  assert.equal(await page.evaluate(() => "hacked" in globalThis), false);
  assert.equal(
    await page.evaluate(() => document.querySelectorAll("#row script, #row img").length),
    0,
  );

  await page.hover("#row .tokens span");
  await page.waitForFunction(() => document.querySelector("#token")!.textContent.includes("id 10"));
  const told = await textOf(page, "#token");
  for (const part of ["log-prob -0.1", "version 4", "mask 1", '" hello"']) {
    assert.ok(told.includes(part), told);
  }
  await page.focus("#row .tokens");
  await page.keyboard.press("ArrowRight");
  await page.waitForFunction(() => document.querySelector("#token")!.textContent.includes("id 11"));
  assert.equal(await textOf(page, "#row .tokens"), "·hello↵\n");
  const shades = await page.$$eval(
    "#row .tokens span",
    (spans) => spans.map((span) => getComputedStyle(span).backgroundColor),
  );
  assert.notEqual(shades[0], shades[1]);
  await page.select("#colour", "version");
  await picture(page, "row");
  assert.deepEqual(await violations(page), []);

  await page.$eval('[name="q"]', (input) => (input as unknown as PageElement).value = "");
  await page.type("#jump", "203");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#row h2")?.textContent === "Row 203");
  assert.deepEqual(
    await page.$$eval("#row .tree button", (all) => all.map((one) => one.textContent)),
    [
      "turn 0, branch 0, reward 1, 2 tokens",
      "turn 1, branch 0, reward 1, 2 tokens",
      "turn 2, branch 1, reward 1, 2 tokens",
    ],
  );
  await page.type('[name="group"]', "3");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "4 rows");
  await page.click("#list .line");
  await page.waitForFunction(() => document.querySelectorAll("#row .group > div").length === 4);
  await picture(page, "group");
  assert.deepEqual(complaints, []);
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
  await page.type('[name="q"]', "answer 77777");
  await page.click("#row-filter button");
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "1 rows");
  await picture(page, "search");
  assert.deepEqual(complaints, []);
});

Deno.test("where others can connect nothing is shown without the key", async () => {
  using monitor = new Monitor({});
  monitor.note("a secret of the run");
  await using dashboard = await openDashboard({ monitor, key, hostname: "0.0.0.0", everyMs: 100 });
  const url = dashboard.url.replace("0.0.0.0", "127.0.0.1");
  for (const path of ["/api/about", "/api/state", "/api/live", "/metrics"]) {
    const answer = await fetch(new URL(path, url));
    assert.equal(answer.status, 401, path);
    await answer.body?.cancel();
  }
  await using opened = await openBrowser();
  const { page } = await openPage(opened.browser, url);
  await page.waitForSelector("#key-form:not([hidden])");
  await page.type("#key", key);
  await page.click("#key-form button");
  await page.waitForFunction(() =>
    document.querySelector("#events")!.textContent.includes("a secret of the run")
  );
});
