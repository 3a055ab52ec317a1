/** Links of the documents lead somewhere, and the files that they name are there. */
import { deepEqual, ok } from "node:assert/strict";
import { dirname, join } from "node:path";
import { filesUnder } from "../../../scripts/files.ts";

const root = new URL("../../../", import.meta.url).pathname;
const pages = [
  ...["README.md", "CONTRIBUTING.md", "SECURITY.md"].map((name) => join(root, name)),
  ...await filesUnder(join(root, "docs"), ".md"),
];

/** What GitHub calls a heading in an address. */
function anchorOf(heading: string): string {
  const text = heading.replaceAll(/[`*]|\[|\]\([^)]*\)/g, "").trim().toLowerCase();
  return text.replaceAll(/[^\p{L}\p{N}\s_-]/gu, "").replaceAll(/\s/g, "-");
}

/** The text without blocks of code, in which nothing is a link or a heading. */
async function proseOf(path: string): Promise<string> {
  return (await Deno.readTextFile(path)).replaceAll(/^```[\s\S]*?^```/gm, "");
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

Deno.test("every link within the project leads to a file, and to a heading of it", async () => {
  const broken: string[] = [];
  let count = 0;
  for (const page of pages) {
    for (const [, target] of (await proseOf(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^\w+:/.test(target!)) continue;
      count++;
      const [file, anchor] = target!.split("#");
      const path = file === "" ? page : join(dirname(page), file!);
      const headings = !await exists(path)
        ? null
        : path.endsWith(".md")
        ? [...(await proseOf(path)).matchAll(/^#+ (.*)$/gm)].map(([, text]) => anchorOf(text!))
        : [];
      const isThere = headings !== null && (anchor === undefined || headings.includes(anchor));
      if (!isThere) broken.push(`${page.slice(root.length)}: ${target}`);
    }
  }
  ok(count > 100, `${count} links are found`);
  deepEqual(broken, []);
});

Deno.test("every file of this project that a document names is there", async () => {
  const gone: string[] = [];
  const named = /`((?:src|ffi|scripts|tests|docs|examples|bench|python)\/[\w/.-]+\.\w+)`/g;
  for (const page of pages) {
    for (const [, path] of (await proseOf(page)).matchAll(named)) {
      if (!await exists(join(root, path!))) gone.push(`${page.slice(root.length)}: ${path}`);
    }
  }
  deepEqual(gone, []);
});
