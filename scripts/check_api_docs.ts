/**
 * Runs `deno doc --lint` over every entry of `exports` in deno.json: each exported name has a doc
 * comment, a written type, and no type in its signature that an importer could not name.
 *
 * Run as `deno run -A scripts/check_api_docs.ts`.
 */
// deno-lint-ignore-file no-console
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const config = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
const entries = Object.values<string>(config.exports);
const { success, stderr } = await new Deno.Command(Deno.execPath(), {
  args: ["doc", "--quiet", "--lint", ...entries],
  cwd: root,
  env: { NO_COLOR: "1" },
  // Standard output has the documentation itself.
  stdout: "null",
  stderr: "piped",
}).output();
if (!success) console.error(new TextDecoder().decode(stderr));
console.log(`api docs: ${entries.length} entries, ${success ? "ok" : "faults"}`);
Deno.exitCode = success ? 0 : 1;
