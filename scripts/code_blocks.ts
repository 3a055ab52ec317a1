/** A fenced block of a Markdown document. */
export interface CodeBlock {
  /** Its text. */
  readonly code: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

/**
 * The TypeScript blocks of a document: fences that say `ts` or `typescript`, and not `ignore`.
 * A fence may be indented, as in a list; its text is moved back by as much.
 */
export function findCodeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { fence: string; indent: string; wanted: boolean; line: number } | undefined;
  let text: string[] = [];
  for (const [i, line] of markdown.split("\n").entries()) {
    const fence = /^(\s*)(`{3,}|~{3,})\s*(.*)$/.exec(line);
    if (open === undefined) {
      if (fence === null) continue;
      const [language = "", ...attributes] = fence[3]!.trim().split(/[\s,]+/);
      const wanted = /^(ts|typescript)$/.test(language) && !attributes.includes("ignore");
      open = { fence: fence[2]!, indent: fence[1]!, wanted, line: i + 1 };
      text = [];
    } else if (fence !== null && fence[2]!.startsWith(open.fence) && fence[3] === "") {
      if (open.wanted) blocks.push({ code: text.join("\n"), line: open.line });
      open = undefined;
    } else {
      text.push(line.startsWith(open.indent) ? line.slice(open.indent.length) : line.trimStart());
    }
  }
  return blocks;
}
