import assert from "node:assert/strict";
import { patternFaults } from "../../../scripts/lint/plugin.ts";

Deno.test("the lint rule refuses patterns that take more than linear time on some text", () => {
  const slow = [
    /\/+$/,
    /(\d+) tokens/,
    /^\s*(?:a)?\s*(?:b)?\s*c/,
    /^(?:\d+\.?\d*)$/,
    /(?:~{3,})([^`\n]*)(?=\n|$)/,
    /(--[\w-]*(?:key|secret)[\w-]*)=/i,
    /^(?:a+)+$/,
  ];
  for (const { source, flags } of slow) {
    assert.notDeepEqual(patternFaults(source, flags), [], source);
  }
});

Deno.test("the lint rule lets the same patterns through where repeats are kept apart", () => {
  const linear = [
    /(?<!\/)\/+$/,
    /(?<!\d)(\d+) tokens/,
    /^\s*(?:a\s*)?(?:b\s*)?c/,
    /^(?:\d+(?:\.\d*)?)$/,
    /^(?:~{3,}(?!~))([^`\n]*)(?=\n|$)/,
    /\s*<call>/y,
  ];
  for (const { source, flags } of linear) {
    assert.deepEqual(patternFaults(source, flags), [], source);
  }
});
