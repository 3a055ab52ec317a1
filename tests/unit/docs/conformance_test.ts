import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { filesUnder } from "../../../scripts/files.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));

Deno.test("docs/conformance.md names each test of a case, and no other", async () => {
  const page = await Deno.readTextFile(join(root, "docs/conformance.md"));
  const told = [...page.matchAll(/^\| (\d+) +\|.*\(\.\.\/(tests\/[\w/.]+)\) +\|$/gm)]
    .map(([, number, file]) => `${number} ${file}`);
  const found: string[] = [];
  for (const path of await filesUnder(join(root, "tests"), ".ts")) {
    const text = await Deno.readTextFile(path);
    for (const [, list] of text.matchAll(/^\s*\/\/ case (\d+(?:(?:, | and )\d+)*)$/gm)) {
      for (const [number] of list!.matchAll(/\d+/g)) {
        found.push(`${number} ${relative(root, path)}`);
      }
    }
  }
  assert.deepEqual([...new Set(told)].sort(), [...new Set(found)].sort());
  assert.ok(found.length > 150);
});
