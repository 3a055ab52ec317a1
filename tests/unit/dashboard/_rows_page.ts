import { openDashboard } from "../../../src/dashboard/mod.ts";
import { readRollout } from "../../../src/rollout_file/mod.ts";
import { temporaryFolder } from "../../_support/temporary_folder.ts";
import { writeRows } from "./_rows.ts";

/** A page with the rows of a file, see {@linkcode writeRows}. */
export async function openRows(groups: number, more: readonly string[] = []) {
  const folder = await temporaryFolder();
  const path = `${folder.path}/rows.jsonl`;
  await writeRows(path, groups, more);
  const page = await openDashboard({
    file: { rollouts: await readRollout(path), name: "rows.jsonl" },
  });
  return {
    async get(path: string) {
      const answer = await fetch(new URL(path, page.url));
      return { status: answer.status, body: await answer.json() };
    },
    page,
    async [Symbol.asyncDispose]() {
      await page[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}
