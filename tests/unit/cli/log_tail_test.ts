import assert from "node:assert/strict";
import fc from "fast-check";
import { LogTail } from "../../../src/cli/log_tail.ts";

const url = "http://a:1";

Deno.test("however a log grows, its tail is what was written, letter by letter", async () => {
  const logFile = await Deno.makeTempFile();
  try {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: "grapheme", maxLength: 60 }).filter((text) => text.isWellFormed()),
        fc.array(fc.nat(7), { maxLength: 40 }),
        async (text, cuts) => {
          await Deno.writeTextFile(logFile, "before\n");
          const tail = new LogTail({ url, logFile });
          assert.equal(await tail.last(5), "before\n");
          let rest = new TextEncoder().encode(text);
          let seen = "";
          for (const cut of [...cuts, rest.length]) {
            await Deno.writeFile(logFile, rest.subarray(0, cut), { append: true });
            rest = rest.subarray(cut);
            seen += await tail.more();
          }
          await Deno.writeFile(logFile, rest, { append: true });
          assert.equal(seen + await tail.more(), text);
        },
      ),
      { numRuns: 50 },
    );
  } finally {
    await Deno.remove(logFile);
  }
});

Deno.test("a log that is emptied, that is gone or that is another one now is read on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const [first, second] = [`${folder}/first`, `${folder}/second`];
    await Deno.writeTextFile(first, "one\ntwo\nthree\n");
    const tail = new LogTail({ url, logFile: first });
    assert.equal(await tail.last(2), "two\nthree\n");
    await Deno.writeTextFile(first, "new\n");
    assert.equal(await tail.more(), "new\n");
    await Deno.remove(first);
    assert.equal(await tail.more(), "");
    await Deno.writeTextFile(second, "of the next process\n");
    assert.equal(tail.follow({ logFile: first }), false);
    assert.equal(tail.follow({ logFile: second }), true);
    assert.equal(await tail.more(), "of the next process\n");
    assert.throws(() => new LogTail({ url, logFile: null }), /no log file/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
