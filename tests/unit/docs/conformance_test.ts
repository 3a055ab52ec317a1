import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { filesUnder } from "../../../scripts/files.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** A case, the file of its test, and the sentence of the test as far as the page gives it. */
interface Row {
  readonly place: string;
  readonly sentence: string;
}

async function toldRows(): Promise<Row[]> {
  const page = await Deno.readTextFile(join(root, "docs/conformance.md"));
  return [...page.matchAll(/^\| (\d+) +\| (.*?) +\| .*\(\.\.\/(tests\/[\w/.]+)\) +\|$/gm)]
    .map(([, number, sentence, file]) => ({ place: `${number} ${file}`, sentence: sentence! }));
}

/** A comment `case N` stands before its test. */
async function foundRows(): Promise<Row[]> {
  const found: Row[] = [];
  for (const path of await filesUnder(join(root, "tests"), ".ts")) {
    const text = await Deno.readTextFile(path);
    for (const match of text.matchAll(/^\s*\/\/ case (\d+(?:(?:, | and )\d+)*)$/gm)) {
      const behind = text.slice(match.index + match[0].length);
      const sentence = /["`](.*?)["`]/.exec(behind)?.[1] ?? "";
      for (const [number] of match[1]!.matchAll(/\d+/g)) {
        found.push({ place: `${number} ${relative(root, path)}`, sentence });
      }
    }
  }
  return found;
}

Deno.test("docs/conformance.md names each test of a case, and no other", async () => {
  const [told, found] = [await toldRows(), await foundRows()];
  const places = (rows: readonly Row[]) => [...new Set(rows.map(({ place }) => place))].sort();
  assert.deepEqual(places(told), places(found));
  assert.ok(found.length > 150);
});

Deno.test("docs/conformance.md gives the sentence of the test that its case stands before", async () => {
  const found = await foundRows();
  for (const { place, sentence } of await toldRows()) {
    // What differs between the tests of a loop is left out as "…", some words at the end in brackets.
    const [words] = sentence.split(/ *\(?…| \(/);
    const beside = found.filter((row) => row.place === place).map((row) => row.sentence);
    assert.ok(beside.some((one) => one.includes(words!)), `${place}: ${sentence}\n${beside}`);
  }
});
