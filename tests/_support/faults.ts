/** Faults of weight sync: runs one, times it, and keeps the outcome for `docs/faults.md`. */
import assert from "node:assert/strict";

/** One line of the table. */
export interface FaultOutcome {
  readonly fault: string;
  readonly elapsedMs: number;
  readonly error: string;
  readonly afterwards: string;
}

const outcomes: FaultOutcome[] = [];

/** Requires that `work` rejects with an error that fits, and notes how long that took. */
export async function fails(
  fault: string,
  expected: { code: string; message: RegExp; afterwards: string },
  work: () => Promise<unknown>,
): Promise<Error & { code?: string; phase?: string; server?: string }> {
  const from = performance.now();
  const error = await work().then(
    () => assert.fail(`"${fault}" did not fail`),
    (reason) => reason,
  );
  const elapsedMs = performance.now() - from;
  assert.equal(error.code, expected.code, `${error.name}: ${error.message}`);
  assert.match(error.message, expected.message);
  const { name, phase } = error;
  note({
    fault,
    elapsedMs,
    error: phase === undefined ? name : `${name}, phase "${phase}"`,
    afterwards: expected.afterwards,
  });
  return error;
}

/** Keeps an outcome for the table. */
export function note(outcome: FaultOutcome): void {
  outcomes.push(outcome);
}

/** Writes the table between its marks in `docs/faults.md`, when `UPDATE_DOCS` is set; format it then. */
export async function writeFaultTable(): Promise<void> {
  if (!Deno.env.get("UPDATE_DOCS") || outcomes.length === 0) return;
  const path = new URL("../../docs/faults.md", import.meta.url);
  const text = await Deno.readTextFile(path);
  const rows = outcomes.map(({ fault, elapsedMs, error, afterwards }) =>
    `| ${fault} | ${(elapsedMs / 1000).toFixed(1)} s | ${error} | ${afterwards} |`
  );
  const table = ["| Fault | Ended after | In | Afterwards |", "| --- | --- | --- | --- |", ...rows];
  const [start, end] = ["<!-- table -->", "<!-- /table -->"];
  const before = text.slice(0, text.indexOf(start) + start.length);
  await Deno.writeTextFile(
    path,
    `${before}\n\n${table.join("\n")}\n\n${text.slice(text.indexOf(end))}`,
  );
}
