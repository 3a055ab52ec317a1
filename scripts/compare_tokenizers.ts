/**
 * Writes the table of docs/policy.md: real tokenizers and templates compared with Python's
 * transformers. With `--check` nothing is written; what differs, or a stale table, is an error.
 *
 * Run as `deno task compare:tokenizers [--check]` after `deno task setup:tokenizers`.
 */
// deno-lint-ignore-file no-console
import { asMarkdown, compareAll, differences } from "./real_tokenizers/compare.ts";

const page = new URL("../docs/policy.md", import.meta.url).pathname;
const begin = "<!-- made by deno task compare:tokenizers -->";
const end = "<!-- end of what is made -->";

const table = await compareAll();
const wrong = differences(table);
for (const line of wrong) console.error(`differs: ${line}`);
const before = await Deno.readTextFile(page);
const [start = "", , rest = ""] = before.split(new RegExp(`${begin}|${end}`));
const after = `${start}${begin}\n\n${asMarkdown(table)}\n\n${end}${rest}`;
const plain = (text: string) => text.replace(/[\s-]+/g, " ");
if (Deno.args.includes("--check")) {
  if (plain(before) !== plain(after)) {
    console.error("docs/policy.md is stale: run `deno task compare:tokenizers`");
    Deno.exitCode = 1;
  }
} else await Deno.writeTextFile(page, after);
if (wrong.length > 0) Deno.exitCode = 1;
console.log(`${table.size} templates compared with Python, ${wrong.length} differences shown`);
