/** What must hold for the turns of a dialog, whoever made them. */
import assert from "node:assert/strict";
import { assistantMaskOf, logProbsOf, type Turn, turnIds } from "../../src/rollout/mod.ts";

/** One request as the server saw it, and what it answered. */
export interface Served {
  /** The ids that it was sent. */
  readonly promptIds: ArrayLike<number>;
  /** The ids that it sampled. */
  readonly ids: ArrayLike<number>;
  /** Their log-probabilities. */
  readonly logProbs: ArrayLike<number>;
}

/** A row for training, from wherever. */
export interface TrainingRow {
  readonly ids: ArrayLike<number>;
  readonly mask: ArrayLike<number>;
  readonly logProbs: ArrayLike<number> | null;
}

/** Checks one turn against what was served and against what its template makes of the history. */
export async function checkTurn(turn: Turn, served: Served): Promise<void> {
  const { prompt, sample } = turn;
  assertSame(prompt.ids, served.promptIds, "the prompt is what was sent");
  assertSame(sample.promptIds, served.promptIds, "the sample has the prompt that was sent");
  assertSame(sample.ids, served.ids, "the response is what was sampled");
  assertSame(sample.logProbs!, Float32Array.from(served.logProbs), "its log-probabilities");
  const { tokenizer } = prompt.model;
  assert.equal(prompt.text, prompt.model.render(prompt.messages));
  assertSame(prompt.textIds, await tokenizer.encode(prompt.text), "the ids of the text");
  if (prompt.kind === "append") {
    const before = turnIds(prompt.parent!);
    assertSame(prompt.ids.subarray(0, before.length), before, "it begins with the turn before");
    const behind = prompt.ids.subarray(before.length);
    const end = prompt.textIds.subarray(prompt.textIds.length - behind.length);
    assertSame(behind, end, "behind it are the template's ids");
    assert.equal(await tokenizer.decode(prompt.ids), prompt.text, "it says what the text says");
  } else {
    assertSame(prompt.ids, prompt.textIds, "it is what the template makes of the history");
  }
  const isDrift = prompt.ids.some((id, index) => id !== prompt.textIds[index]) ||
    prompt.ids.length !== prompt.textIds.length;
  assert.equal(prompt.drift !== null, isDrift, "drift is told");
  checkMarks(prompt);
}

/** Masks and log-probabilities of the prompt are those of the turns that it begins with. */
function checkMarks(prompt: Turn["prompt"]): void {
  const mask = new Uint8Array(prompt.ids.length);
  const logProbs = new Float32Array(prompt.ids.length);
  let at = prompt;
  while (at.kind === "append") {
    const { prompt: before, sample } = at.parent!;
    mask.fill(1, before.ids.length, before.ids.length + sample.ids.length);
    logProbs.set(sample.logProbs!, before.ids.length);
    at = before;
  }
  assertSame(assistantMaskOf(prompt), mask, "the mask is on sampled ids only");
  assertSame(logProbsOf(prompt)!, logProbs, "log-probabilities are on sampled ids only");
}

/** Every sampled id is in exactly one row, behind the ids that it was sampled behind. */
export function checkRows(rows: readonly TrainingRow[], served: readonly Served[]): void {
  const left = new Set(served);
  for (const { ids, mask, logProbs } of rows) {
    const row = Array.from(ids);
    let at = 0;
    while (at < row.length) {
      if (mask[at] === 0) {
        at++;
        continue;
      }
      const found = [...left].find(({ promptIds, ids }) =>
        ids.length > 0 && promptIds.length === at &&
        isSame(row.slice(0, at), promptIds) && isSame(row.slice(at, at + ids.length), ids)
      );
      assert.ok(found, `ids from ${at} on are marked, but were not sampled behind these`);
      left.delete(found);
      const end = at + found.ids.length;
      assert.ok(row.slice(at, end).every((_, index) => mask[at + index] === 1));
      assertSame(Array.from(logProbs!).slice(at, end), Float32Array.from(found.logProbs), "");
      at = end;
    }
    const unmarked = Array.from(logProbs!).filter((_, index) => mask[index] === 0);
    assert.ok(unmarked.every((value) => value === 0));
  }
  const missing = [...left].filter(({ ids }) => ids.length > 0);
  assert.equal(missing.length, 0, "every sampled id is in a row");
}

function assertSame(a: ArrayLike<number>, b: ArrayLike<number>, what: string): void {
  assert.deepEqual(Array.from(a), Array.from(b), what);
}

function isSame(a: ArrayLike<number>, b: ArrayLike<number>): boolean {
  return a.length === b.length && Array.from(a).every((id, index) => id === b[index]);
}
