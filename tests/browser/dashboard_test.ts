import assert from "node:assert/strict";
import type { Page } from "puppeteer-core";
import { SGLangClient } from "../../src/client/mod.ts";
import { actionsOf, openDashboard } from "../../src/dashboard/mod.ts";
import { readRollout } from "../../src/rollout_file/mod.ts";
import { Monitor } from "../../src/telemetry/mod.ts";
import { temporaryFolder } from "../_support/temporary_folder.ts";
import { writeRows } from "../unit/dashboard/_rows.ts";
import { openTraining, watchedOf } from "../unit/telemetry/_training.ts";
import {
  openBrowser,
  openPage,
  type PageDocument,
  type PageElement,
  type PageStyle,
  picture,
  textOf,
  violations,
} from "./_browser.ts";

declare const document: PageDocument;
declare const getComputedStyle: PageStyle;

const key = "a-key-of-the-dashboard";

Deno.test("a run is seen as it goes: fleet, sync, rollouts, curves, events, buttons", async () => {
  await using training = await openTraining();
  using monitor = new Monitor(watchedOf(training));
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
  await page.waitForFunction(() => document.querySelectorAll("#servers li.paused").length === 2);
  assert.match(await textOf(page, "#servers li"), /paused.*\(serving\)/);
  await page.click("#buttons button:nth-child(2)");
  await page.waitForFunction(() => document.querySelector("#said")!.textContent === "resume: done");
  // Another program's pause is shown, too.
  const others = training.servers.map(({ url }) => new SGLangClient({ url }));
  for (const other of others) await other.pause("in_place");
  await page.waitForFunction(() =>
    [...document.querySelectorAll("#servers li.paused")].filter((one) =>
      one.textContent.includes("another program")
    ).length === 2
  );
  for (const other of others) await other.resume();
  await page.waitForFunction(() => document.querySelectorAll("#servers li.serving").length === 2);
  for (const other of others) await other.close();
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

Deno.test("a program that hangs is told, though its connection stays open", async () => {
  for (const canShare of [true, false]) {
    const dashboard = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "tests/browser/_dashboard_child.ts"],
      stdout: "piped",
    }).spawn();
    const output = dashboard.stdout.getReader();
    await using owned = new AsyncDisposableStack();
    owned.defer(async () => {
      dashboard.kill("SIGKILL");
      await dashboard.status;
      await output.cancel();
    });
    const { value } = await output.read();
    await using opened = await openBrowser();
    const page = await opened.browser.newPage();
    // Ten seconds of silence take one.
    await page.evaluateOnNewDocument((canShare) => {
      const [later, timeout] = [setTimeout, AbortSignal.timeout.bind(AbortSignal)];
      Object.assign(globalThis, {
        setTimeout: (work: () => void, ms: number) => later(work, ms / 10),
      });
      AbortSignal.timeout = (ms) => timeout(ms / 10);
      if (!canShare) Object.defineProperty(navigator, "locks", { value: undefined });
    }, canShare);
    await page.goto(new TextDecoder().decode(value).trim(), { waitUntil: "domcontentloaded" });
    const says = (text: string) =>
      page.waitForFunction(
        (text) => document.querySelector("#connection")!.textContent.includes(text),
        { timeout: 15_000 },
        text,
      );
    await says("live");
    dashboard.kill("SIGSTOP");
    await says("lost");
    dashboard.kill("SIGCONT");
    await says("live");
  }
});

/** Waits until a page shows a text among its events. */
function showsEvent(page: Page, text: string) {
  return page.waitForFunction(
    (text) => document.querySelector("#events")!.textContent.includes(text),
    // Tabs behind others draw no frames.
    { polling: "mutation" },
    text,
  );
}

Deno.test("eight tabs read by one connection, and go on when the one that reads is closed", async () => {
  using monitor = new Monitor({});
  await using dashboard = await openDashboard({ monitor, everyMs: 100 });
  await using opened = await openBrowser();
  const tabs: Page[] = [];
  for (let i = 0; i < 8; i++) tabs.push((await openPage(opened.browser, dashboard.url)).page);
  monitor.note("for everybody");
  for (const tab of tabs) await showsEvent(tab, "for everybody");
  assert.equal(dashboard.readers, 1);
  // None of them waits for a connection, whatever it asks.
  for (const tab of tabs) {
    assert.equal(await tab.evaluate(async () => (await fetch("/api/about")).status), 200);
    assert.equal(await textOf(tab, "#connection"), "live");
  }
  await tabs.shift()!.close();
  monitor.note("for those that are left");
  for (const tab of tabs) await showsEvent(tab, "for those that are left");
  assert.equal(dashboard.readers, 1);
  await dashboard[Symbol.asyncDispose]();
  const says = (tab: Page, word: string) =>
    tab.waitForFunction(
      (word) => document.querySelector("#connection")!.textContent.includes(word),
      { polling: "mutation" },
      word,
    );
  for (const tab of tabs) await says(tab, "lost");
  const port = Number(new URL(dashboard.url).port);
  await using again = await openDashboard({ monitor, everyMs: 100, port });
  monitor.note("after the loss");
  for (const tab of tabs) await showsEvent(tab, "after the loss");
  for (const tab of tabs) await says(tab, "live");
  assert.equal(again.readers, 1);
});

Deno.test("where tabs cannot share a connection each state is a question of its own", async () => {
  using monitor = new Monitor({});
  await using dashboard = await openDashboard({ monitor, everyMs: 100 });
  await using opened = await openBrowser();
  const page = await opened.browser.newPage();
  // As in a page that comes over plain HTTP from another machine.
  await page.evaluateOnNewDocument(() =>
    Object.defineProperty(navigator, "locks", { value: undefined })
  );
  await page.goto(dashboard.url, { waitUntil: "domcontentloaded" });
  for (const text of ["the first", "the second"]) {
    monitor.note(text);
    await showsEvent(page, text);
  }
  assert.equal(await textOf(page, "#connection"), "live");
  assert.equal(dashboard.readers, 0);
});

Deno.test("on 360 pixels nothing stands beyond the edge, and rows show their texts", async () => {
  await using training = await openTraining();
  using monitor = new Monitor(watchedOf(training));
  await training.step();
  await training.step();
  await using folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, 20, ["{broken"]);
  await using dashboard = await openDashboard({
    monitor,
    actions: actionsOf(training.engine),
    key,
    everyMs: 100,
    file: { rollouts: await readRollout(path), name: "a-long-name-of-a-file-of-rollouts.jsonl" },
  });
  await using opened = await openBrowser();
  const { page, complaints } = await openPage(opened.browser, dashboard.url);
  await page.setViewport({ width: 360, height: 740 });
  const width = () =>
    page.evaluate(() =>
      // deno-lint-ignore no-explicit-any
      (document as any).scrollingElement.scrollWidth as number
    );
  await page.waitForSelector("#servers li.serving");
  assert.ok(await width() <= 360, `${await width()} pixels wide`);
  assert.deepEqual(await violations(page), []);
  await page.click("#tab-rows");
  await page.waitForSelector("#list .line");
  await page.click("#list .line");
  await page.waitForSelector("#row .tokens [data-i]");
  assert.ok(await width() <= 360, `${await width()} pixels wide`);
  const seen = await page.$eval(
    "#list .line span:last-child",
    (span) => (span as unknown as PageElement).getBoundingClientRect().width,
  );
  assert.ok(seen > 100, `the text of a row has ${seen} pixels`);
  assert.deepEqual(await violations(page), []);
  await picture(page, "narrow");
  assert.deepEqual(complaints, []);
});

Deno.test("a file without rows is shown as that", async () => {
  await using dashboard = await openDashboard({
    file: { rollouts: await readRollout(new Uint8Array()), name: "empty.jsonl" },
  });
  await using opened = await openBrowser();
  const { page, complaints } = await openPage(opened.browser, dashboard.url);
  await page.waitForFunction(() => document.querySelector("#found")!.textContent === "0 rows");
  assert.match(await textOf(page, "#file"), /^empty\.jsonl: 0 rows/);
  await page.focus("#list");
  for (const press of ["End", "PageUp", "ArrowDown"] as const) await page.keyboard.press(press);
  await page.click("#export");
  await page.waitForFunction(() => document.querySelector("#jumped")!.textContent === "exported");
  assert.deepEqual(await violations(page), []);
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
  const give = async (key: string) => {
    await page.waitForSelector("#key-form:not([hidden])");
    await page.type("#key", key);
    await page.click("#key-form button");
  };
  const isTold = (word: string) =>
    page.waitForFunction(
      (word) => document.querySelector("#key-told")!.textContent.includes(word),
      {},
      word,
    );
  for (const bad of ["ключ-от-страницы", "a key with spaces", "ÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿÿ", "🔑", "  "]) {
    await give(bad);
    await isTold(bad.trim() === "" ? "Give the key" : "ASCII");
    assert.equal(await page.evaluate(() => sessionStorage.getItem("key")), null);
  }
  await give("another-key-than-that");
  await isTold("not the key");
  assert.equal(await page.evaluate(() => sessionStorage.getItem("key")), null);
  // One that was kept before the page refused such keys does not lock it out.
  await page.evaluate(() => sessionStorage.setItem("key", "ключ"));
  await page.reload({ waitUntil: "domcontentloaded" });
  await give(`${key} `);
  await page.waitForFunction(() =>
    document.querySelector("#events")!.textContent.includes("a secret of the run")
  );
});
