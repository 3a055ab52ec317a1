/** How the errors of a function are documented. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { filesUnder } from "../../../scripts/files.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));

/** The text of each comment that documents something, without its stars. */
function comments(text: string): string[] {
  return [...text.matchAll(/\/\*\*([\s\S]*?)\*\//g)].map(([, inner]) =>
    inner!.replace(/^[ \t]*\* ?/gm, "")
  );
}

/** Tags `@throws` with the lines that belong to them. */
function throwsTags(comment: string): string[] {
  return [...comment.matchAll(/@throws[^@]*?(?=@(?:throws|param|returns|example)|\n\s*\n|$)/g)].map(
    (
      [tag],
    ) => tag.trim(),
  );
}

Deno.test("an error is documented as @throws {Class} and a sentence, nowhere else", async () => {
  const files = [
    ...await filesUnder(`${root}src`, ".ts"),
    ...await filesUnder(`${root}ffi`, ".ts"),
  ];
  const wrong: string[] = [];
  let count = 0;
  for (const file of files) {
    for (const comment of comments(await Deno.readTextFile(file))) {
      for (const tag of throwsTags(comment)) {
        count++;
        if (!/^@throws \{\w+\} [A-Z`"0-9][\s\S]*\.$/.test(tag)) wrong.push(`${file}: ${tag}`);
      }
      const prose = /Throws an? (\{@linkcode |`)\w+Error/.exec(comment);
      if (prose !== null) wrong.push(`${file}: ${prose[0]}`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(count > 200);
});
