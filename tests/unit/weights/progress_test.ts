import assert from "node:assert/strict";
import { progressBar } from "../../../src/weights/mod.ts";
import { progressLine } from "../../../src/weights/sync/progress.ts";

const halfway = {
  phase: "update",
  message: "update bucket 1 of 2",
  bytesDone: 5_000_000,
  bytesTotal: 10_000_000,
  elapsedMs: 1234,
} as const;

Deno.test("a progress line shows bar, bytes, time and step", () => {
  assert.equal(
    progressLine(halfway),
    "[############------------] 5.0/10.0 MB 1.2 s  update bucket 1 of 2",
  );
});

Deno.test("a progress bar keeps to one line of a terminal and is silent elsewhere", () => {
  const written: string[] = [];
  const output = (terminal: boolean) => ({
    isTerminal: () => terminal,
    writeSync(bytes: Uint8Array) {
      written.push(new TextDecoder().decode(bytes));
      return bytes.length;
    },
  });
  progressBar(output(false))(halfway);
  assert.equal(written.length, 0);
  const bar = progressBar(output(true));
  bar(halfway);
  bar({ ...halfway, phase: "resume", bytesDone: 10_000_000 });
  assert.ok(written.every((line) => line.startsWith("\r")));
  assert.deepEqual(written.map((line) => line.endsWith("\n")), [false, true]);
});
