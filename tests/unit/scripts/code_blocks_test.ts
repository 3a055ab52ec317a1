import assert from "node:assert/strict";
import { findCodeBlocks } from "../../../scripts/code_blocks.ts";

const document = `# Title
\`\`\`ts
const a = 1;
\`\`\`
\`\`\`sh
deno task test
\`\`\`
- in a list
  \`\`\`typescript
  const b = {
    c: 2,
  };
  \`\`\`
\`\`\`ts ignore
const broken = ;
\`\`\`
\`\`\`\`md
\`\`\`ts
const quoted = true;
\`\`\`
\`\`\`\`
`;

Deno.test("the TypeScript blocks of a document are found, with their lines", () => {
  assert.deepEqual(findCodeBlocks(document), [
    { code: "const a = 1;", line: 2 },
    { code: "const b = {\n  c: 2,\n};", line: 9 },
  ]);
});
