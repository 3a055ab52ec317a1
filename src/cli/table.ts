/** A cell of a table; `null` is shown as a dash. */
export type Cell = string | number | null;

/**
 * Text in columns: numbers to the right, all else to the left. Where the columns do not fit into
 * `width`, each row becomes a block of lines of its own, `title  value`, cut at the width.
 */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly Cell[])[],
  width = Infinity,
): string {
  const lines = columns(header, rows);
  if (lines.every((line) => line.length <= width)) return joined(lines);
  return joined(blocks(header, rows).map((line) => cut(line, width)));
}

function columns(header: readonly string[], rows: readonly (readonly Cell[])[]): string[] {
  const cells = rows.map((row) => row.map(shown));
  const widths = header.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => row[column]!.length))
  );
  const isNumber = header.map((_, column) =>
    rows.length > 0 && rows.every((row) => row[column] === null || typeof row[column] === "number")
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) =>
      isNumber[column] ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)
    ).join("  ").trimEnd();
  return [header, ...cells].map(line);
}

function blocks(header: readonly string[], rows: readonly (readonly Cell[])[]): string[] {
  const widest = Math.max(...header.map((title) => title.length));
  return rows.flatMap((row, i) => [
    ...(i === 0 ? [] : [""]),
    ...header.map((title, column) => `${title.padEnd(widest)}  ${shown(row[column] ?? null)}`),
  ]);
}

function shown(cell: Cell): string {
  return cell === null ? "-" : String(cell);
}

function cut(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`;
}

function joined(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}
