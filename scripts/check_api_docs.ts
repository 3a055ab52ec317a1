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

/**
 * What `deno doc --lint` says, without what it says of types of packages: whoever imports a model for
 * a framework has the framework, and with it the names of its types.
 */
async function ownFaults(told: string, success: boolean): Promise<string[]> {
  const blocks = told.split(/^(?=error)/m).filter((block) => block.startsWith("error["));
  const own: string[] = [];
  for (const block of blocks) {
    const [, type] = /references private type '(\w+)'/.exec(block) ?? [];
    const [, path] = /--> (.+?):\d+:\d+/.exec(block) ?? [];
    if (type !== undefined && path !== undefined) {
      const text = await Deno.readTextFile(path);
      const imported = new RegExp(`import (?:type )?\\{[^}]*\\b${type}\\b[^}]*\\} from "[^."]`);
      if (imported.test(text)) continue;
    }
    own.push(block);
  }
  // Something else than faults of documentation, for example a module that is not found, or a kill.
  if (blocks.length === 0 && !success) own.push(told || "deno doc --lint ended without a word");
  return own;
}

const { success, stderr } = await new Deno.Command(Deno.execPath(), {
  args: ["doc", "--quiet", "--lint", ...entries],
  cwd: root,
  env: { NO_COLOR: "1" },
  // Standard output has the documentation itself.
  stdout: "null",
  stderr: "piped",
}).output();
const faults = [
  ...await ownFaults(new TextDecoder().decode(stderr), success),
  ...await findCrowded(),
  ...await findThrowsFaults(root),
];
for (const line of faults) console.error(line);
const isGood = faults.length === 0;
console.log(`api docs: ${entries.length} entries, ${isGood ? "ok" : "faults"}`);
Deno.exitCode = isGood ? 0 : 1;
