/** The shell blocks of the documents, and how each is run. */

/** A fenced `sh` block. */
export interface ShellBlock {
  readonly code: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
  /**
   * What the fence says after `sh`: nothing (it ends with 0), `beside serve` (the same, on a machine
   * where two servers of `serve` run), `until Ctrl-C` (it goes on), or `not run: REASON`.
   */
  readonly run: "to its end" | "beside serve" | "until Ctrl-C" | { readonly not: string };
}

/** The `sh` blocks of a document; a fence may be indented, as in a list. */
export function findShellBlocks(markdown: string): ShellBlock[] {
  const blocks: ShellBlock[] = [];
  let open: { fence: string; wanted: boolean; line: number; words: string } | undefined;
  let text: string[] = [];
  for (const [i, line] of markdown.split("\n").entries()) {
    const fence = /^(\s*)(`{3,}|~{3,})\s*(.*)$/.exec(line);
    if (open === undefined) {
      if (fence === null) continue;
      const [, language = "", words = ""] = /^(\S*)\s*(.*)$/.exec(fence[3]!.trim())!;
      const wanted = /^(sh|bash|shell|console)$/.test(language);
      open = { fence: fence[2]!, wanted, line: i + 1, words };
      text = [];
    } else if (fence !== null && fence[2]!.startsWith(open.fence) && fence[3] === "") {
      if (open.wanted) {
        blocks.push({ code: text.join("\n"), line: open.line, run: howTo(open.words) });
      }
      open = undefined;
    } else {
      text.push(line);
    }
  }
  return blocks;
}

function howTo(words: string): ShellBlock["run"] {
  if (words === "") return "to its end";
  if (words === "until Ctrl-C" || words === "beside serve") return words;
  const [, reason = ""] = /^not run: (.+)$/.exec(words) ?? [];
  if (reason !== "") return { not: reason };
  throw new Error(
    `A shell block says "${words}"; it may say beside serve, until Ctrl-C, or not run: REASON`,
  );
}
