/**
 * Type-checks every `ts` block of README.md and docs/*.md, as a user of the package would write it.
 *
 * Run as `deno run -A scripts/check_docs.ts [FILE...]`.
 */
// deno-lint-ignore-file no-console
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { type CodeBlock, findCodeBlocks } from "./code_blocks.ts";
import { filesUnder } from "./files.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

interface Block extends CodeBlock {
  readonly file: string;
}

async function readBlocks(files: readonly string[]): Promise<Block[]> {
  const blocks = await Promise.all(files.map(async (file) => {
    const found = findCodeBlocks(await Deno.readTextFile(file));
    return found.map((block) => ({ ...block, file }));
  }));
  return blocks.flat();
}

/**
 * Blocks are written to a folder inside the project, so that `deno check` maps the package's own name
 * by `exports` of deno.json, as it does for an importer.
 */
async function check(blocks: readonly Block[]): Promise<boolean> {
  const cache = join(root, ".cache");
  await Deno.mkdir(cache, { recursive: true });
  const folder = await Deno.makeTempDir({ dir: cache, prefix: "docs-" });
  try {
    const paths = await Promise.all(blocks.map(async (block, i) => {
      const path = join(folder, `block_${i}.ts`);
      // A block is a module of its own, even one without imports.
      await Deno.writeTextFile(path, `${block.code}\nexport {};\n`);
      return path;
    }));
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", ...paths],
      cwd: root,
      env: { NO_COLOR: "1" },
      stderr: "piped",
    }).output();
    if (!success) console.error(nameBlocks(new TextDecoder().decode(stderr), paths, blocks));
    return success;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Puts the place in the document where the error names the block's file. */
function nameBlocks(text: string, paths: readonly string[], blocks: readonly Block[]): string {
  return paths.reduce((named, path, i) => {
    const { file, line } = blocks[i]!;
    const pattern = new RegExp(`file://${path.replaceAll(".", "\\.")}(?::(\\d+):(\\d+))?`, "g");
    return named.replace(pattern, (_match, inBlock?: string, column?: string) => {
      const place = relative(root, file);
      return inBlock === undefined ? place : `${place}:${line + Number(inBlock)}:${column}`;
    });
  }, text);
}

if (import.meta.main) {
  const files = Deno.args.length > 0
    ? Deno.args
    : [join(root, "README.md"), ...await filesUnder(join(root, "docs"), ".md")];
  const blocks = await readBlocks(files);
  const success = blocks.length === 0 || await check(blocks);
  console.log(`docs: ${files.length} files, ${blocks.length} blocks, ${success ? "ok" : "faults"}`);
  Deno.exitCode = success ? 0 : 1;
}
