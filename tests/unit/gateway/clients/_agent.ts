import assert from "node:assert/strict";
import type { EndedSession } from "../../../../src/gateway/mod.ts";
import { idsOf, scriptedReader, type Setup, setup } from "../_support.ts";

/** What the tiny model's answers are taken for: two calls side by side, one call, an answer. */
export const script = [
  [{ name: "add", arguments: { a: 1, b: 2 } }, { name: "add", arguments: { a: 3, b: 4 } }],
  [{ name: "add", arguments: { a: 3, b: 7 } }],
];

/** The schema of the tool of {@linkcode script}. */
export const addParameters = {
  type: "object" as const,
  properties: { a: { type: "number" }, b: { type: "number" } },
  required: ["a", "b"],
};

/** A gateway whose model follows the script. */
export function scriptedSetup(): Promise<Setup> {
  return setup({
    policy: { generateKwargs: { maxNewTokens: 8 }, readAnswer: scriptedReader(script) },
  });
}

/** The loop of tools was three turns, and each went on from the ids of the one before. */
export function checkLoop({ rows }: EndedSession): void {
  assert.deepEqual(rows.map(({ parent, branch }) => [parent, branch]), [[null, 0], [0, 0], [1, 0]]);
  for (const index of [1, 2]) {
    const before = idsOf(rows[index - 1]!);
    assert.deepEqual(idsOf(rows[index]!).slice(0, before.length), before);
  }
}
