/** A real browser, without a window. */
import axe from "axe-core";
import puppeteer, { type Browser, type Page } from "puppeteer-core";

/** What functions that run in the page see of an element. */
export interface PageElement {
  readonly textContent: string;
  value: string;
  getBoundingClientRect(): { readonly x: number; readonly width: number };
}

/** What they see of the page: `declare const document: PageDocument`. */
export interface PageDocument {
  querySelector(selector: string): PageElement | null;
  querySelectorAll(selector: string): Iterable<PageElement> & { readonly length: number };
}

/** How an element looks: `declare const getComputedStyle: PageStyle`. */
export type PageStyle = (element: unknown) => { readonly backgroundColor: string };

/** Starts Chromium; it ends with its owner. */
export async function openBrowser(): Promise<{ browser: Browser } & AsyncDisposable> {
  const browser = await puppeteer.launch({
    executablePath: Deno.env.get("CHROMIUM") ?? "/usr/bin/chromium",
    headless: true,
    args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
  });
  return { browser, [Symbol.asyncDispose]: () => browser.close() };
}

/** Opens a page and keeps what it complains about. */
export async function openPage(
  browser: Browser,
  url: string,
): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage();
  await page.setViewport({ width: 1280, height: 900 });
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(message.text());
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(url).origin)) complaints.push(`asked ${request.url()}`);
  });
  await page.goto(url, { waitUntil: "domcontentloaded" });
  return { page, complaints };
}

/** Text of an element. */
export async function textOf(page: Page, selector: string): Promise<string> {
  return await page.$eval(selector, (element) => element.textContent ?? "");
}

/** Folder for the pictures of the docs; none are made without it. */
const pictures = Deno.env.get("PICTURES");

/** Takes a picture for the docs, where they are wanted. */
export async function picture(page: Page, name: string): Promise<void> {
  if (pictures !== undefined) await page.screenshot({ path: `${pictures}/${name}.png` as const });
}

/** Scrolls to an element. */
export async function show(page: Page, selector: string): Promise<void> {
  await page.$eval(
    selector,
    (element) =>
      (element as unknown as { scrollIntoView(options: { block: string }): void })
        .scrollIntoView({ block: "center" }),
  );
}

/** What axe-core finds, in words. */
export async function violations(page: Page): Promise<string[]> {
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
