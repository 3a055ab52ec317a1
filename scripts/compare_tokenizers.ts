/**
 * Writes the tables of docs/policy.md: real tokenizers and templates compared with Python's
 * transformers. With `--check` nothing is written; what differs, or a stale page, is an error.
 *
 * Run as `deno task compare:tokenizers [--check]` after `deno task setup:tokenizers`.
 */
// deno-lint-ignore-file no-console
import { asMarkdown, compareAll, differences } from "./real_tokenizers/compare.ts";
import { compareTemplates, countsOf } from "./real_tokenizers/compare_templates.ts";

const page = new URL("../docs/policy.md", import.meta.url).pathname;

/** The page with what is made between two marks. */
function withMade(page: string, made: string, begin: string): string {
  const end = "<!-- end of what is made -->";
  const from = page.indexOf(begin) + begin.length;
  const to = page.indexOf(end, from);
  if (from < begin.length || to < 0) throw new Error(`docs/policy.md has no ${begin}`);
  return `${page.slice(0, from)}\n\n${made}\n\n${page.slice(to)}`;
}

const table = await compareAll();
const templates = await compareTemplates();
const wrong = [
  ...differences(table),
  ...templates.filter(({ details }) => details !== "")
    .map(({ template, chat, details }) => `${template}, conversation ${chat}: ${details}`),
];
for (const line of wrong) console.error(`differs: ${line}`);
const before = await Deno.readTextFile(page);
const tokenizers = withMade(
  before,
  asMarkdown(table),
  "<!-- made by deno task compare:tokenizers -->",
);
const after = withMade(
  tokenizers,
  countsOf(templates),
  "<!-- templates, made by deno task compare:tokenizers -->",
);
const plain = (text: string) => text.replace(/[\s-]+/g, " ");
if (Deno.args.includes("--check")) {
  if (plain(before) !== plain(after)) {
    console.error("docs/policy.md is stale: run `deno task compare:tokenizers`");
    Deno.exitCode = 1;
  }
} else await Deno.writeTextFile(page, after);
if (wrong.length > 0) Deno.exitCode = 1;
console.log(
  `${table.size} models and ${new Set(templates.map(({ template }) => template)).size} templates ` +
    `compared with Python, ${wrong.length} differences shown`,
);
