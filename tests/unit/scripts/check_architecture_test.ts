import assert from "node:assert/strict";
import { findFaults } from "../../../scripts/check_architecture.ts";

const files: Readonly<Record<string, string>> = {
  "src/a": "",
  "src/a/one.ts": "export function go() {}",
  "src/a/two.ts": "",
  "src/a/three.ts": "",
};
const read = (path: string) => Promise.resolve(files[path] ?? null);
const page = (first: string) =>
  `# Page\n\n\`src/a\`\n\n## How it goes\n\n1. ${first}\n2. \`src/a/two.ts\`: b\n` +
  "3. `src/a/three.ts`: c\n\nBeside them: `nothing` at all.\n";

Deno.test("a page whose files and names exist has no faults", async () => {
  assert.deepEqual(await findFaults(page("`src/a/one.ts`: `go`"), ["src/a"], read), []);
});

Deno.test("a file, a name or a part that is not there is told", async () => {
  const faults = await findFaults(page("`src/a/gone.ts`: `go`"), ["src/a", "src/b"], read);
  assert.deepEqual(faults, [
    "src/a/gone.ts does not exist",
    "src/b is not in the table of parts",
    "src/a/gone.ts has no go",
  ]);
});

Deno.test("a question is answered by three files", async () => {
  const two = page("`src/a/one.ts`: `go`").replace("3. `src/a/three.ts`: c\n", "");
  assert.deepEqual(await findFaults(two, [], read), ['"How it goes" is answered by 2 files']);
});
