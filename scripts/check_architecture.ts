/**
 * Checks docs/architecture.md: every path in it exists, each "How …" is answered by three files, each
 * with the names that are told of it, and every part of scripts/layers.ts stands in the table.
 *
 * Run as `deno run -A scripts/check_architecture.ts`.
 */
// deno-lint-ignore-file no-console
import { layers } from "./layers.ts";

/** Files that answer a question. */
const FILES = 3;

/** What is wrong with a page, one line each; `read` gives a file's text, `null` where there is none. */
export async function findFaults(
  page: string,
  parts: readonly string[],
  read: (path: string) => Promise<string | null>,
): Promise<string[]> {
  const faults: string[] = [];
  for (const [, path] of page.matchAll(/`((?:src|ffi|scripts|tests|docs)\/[\w/.]+)`/g)) {
    if (await read(path!) === null) faults.push(`${path} does not exist`);
  }
  for (const part of parts) {
    if (!page.includes(`\`${part}\``)) faults.push(`${part} is not in the table of parts`);
  }
  const questions = page.split(/^## /m).filter((section) => section.startsWith("How "));
  if (questions.length === 0) faults.push("there is no question that begins with How");
  for (const section of questions) {
    const [title, ...lines] = section.split("\n");
    const items = lines.join("\n").split(/^\d\. /m).slice(1).map((item) => item.split("\n\n")[0]!);
    if (items.length !== FILES) faults.push(`"${title}" is answered by ${items.length} files`);
    for (const item of items) {
      const [path, ...names] = [...item.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
      const text = await read(path ?? "") ?? "";
      for (const name of names) {
        if (!new RegExp(`\\b${name}\\b`).test(text)) faults.push(`${path} has no ${name}`);
      }
    }
  }
  return faults;
}

if (import.meta.main) {
  const root = new URL("../", import.meta.url);
  const read = async (path: string) => {
    const url = new URL(path, root);
    const info = await Deno.stat(url).catch(() => null);
    if (info === null || path === "") return null;
    return info.isFile ? await Deno.readTextFile(url) : "";
  };
  const page = await Deno.readTextFile(new URL("docs/architecture.md", root));
  const parts = Object.keys(layers).filter((part) => part !== "mod.ts" && part !== "src/errors");
  const faults = await findFaults(page, parts, read);
  for (const fault of faults) console.error(`docs/architecture.md: ${fault}`);
  console.log(`architecture: ${parts.length} parts, ${faults.length} faults`);
  Deno.exitCode = faults.length > 0 ? 1 : 0;
}
