/** How the errors of a function are documented: as `@throws {Class}` and a sentence. */
import { relative } from "node:path";
import { filesUnder } from "./files.ts";

/** Tags that are written otherwise, and errors that are told in prose, one line each. */
export async function findThrowsFaults(root: string): Promise<string[]> {
  const files = [
    ...await filesUnder(`${root}src`, ".ts"),
    ...await filesUnder(`${root}ffi`, ".ts"),
  ];
  const faults = await Promise.all(files.map(async (file) => {
    const comments = commentsOf(await Deno.readTextFile(file));
    return comments.flatMap(faultsOf).map((fault) => `${relative(root, file)}: ${fault}`);
  }));
  return faults.flat();
}

function faultsOf(comment: string): string[] {
  const wrong = throwsTags(comment).filter((tag) =>
    !/^@throws \{\w+\} [A-Z`"0-9][\s\S]*\.$/.test(tag)
  );
  const prose = /Throws an? (?:\{@linkcode |`)\w+Error/.exec(comment);
  const found = [...wrong, ...prose === null ? [] : [prose[0]]];
  return found.map((text) => `write "@throws {Class} A sentence." instead of: ${text}`);
}

/** The text of each comment that documents something, without its stars. */
function commentsOf(text: string): string[] {
  return [...text.matchAll(/\/\*\*([\s\S]*?)\*\//g)].map(([, inner]) =>
    inner!.replace(/^[ \t]*\* ?/gm, "")
  );
}

/** Tags `@throws` with the lines that belong to them. */
function throwsTags(comment: string): string[] {
  const tags = comment.matchAll(/@throws[^@]*?(?=@(?:throws|param|returns|example)|\n\s*\n|$)/g);
  return [...tags].map(([tag]) => tag.trim());
}
