/**
 * Runs `deno doc --lint` over every entry of `exports` in deno.json: each exported name has a doc
 * comment, a written type, and no type in its signature that an importer could not name. And no entry
 * exports more names than a reader can look through, and errors are documented in one way.
 *
 * Run as `deno run -A scripts/check_api_docs.ts`.
 */
// deno-lint-ignore-file no-console
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { findThrowsFaults } from "./throws_style.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const config = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
const exported = config.exports as Readonly<Record<string, string>>;
const entries = Object.values(exported);

/** The most names of an entry; the root has the classes, their options and the errors. */
const limitOf = (entry: string) => entry === "." ? 80 : 40;

interface Documented {
  readonly nodes: Readonly<Record<string, { readonly symbols: readonly unknown[] }>>;
}

/** The entries that export too many names, one line each. */
async function findCrowded(): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["doc", "--quiet", "--json", ...entries],
    cwd: root,
    stderr: "null",
  }).output();
  const { nodes }: Documented = JSON.parse(new TextDecoder().decode(stdout));
  return Object.entries(exported).flatMap(([entry, path]) => {
    const count = nodes[pathToFileURL(join(root, path)).href]!.symbols.length;
    return count <= limitOf(entry) ? [] : [
      `${entry} exports ${count} names, at most ${limitOf(entry)} are wanted: move a part of it` +
      " to an entry of its own in deno.json",
    ];
  });
}

const { success, stderr } = await new Deno.Command(Deno.execPath(), {
  args: ["doc", "--quiet", "--lint", ...entries],
  cwd: root,
  env: { NO_COLOR: "1" },
  // Standard output has the documentation itself.
  stdout: "null",
  stderr: "piped",
}).output();
if (!success) console.error(new TextDecoder().decode(stderr));
const faults = [...await findCrowded(), ...await findThrowsFaults(root)];
for (const line of faults) console.error(line);
const isGood = success && faults.length === 0;
console.log(`api docs: ${entries.length} entries, ${isGood ? "ok" : "faults"}`);
Deno.exitCode = isGood ? 0 : 1;
