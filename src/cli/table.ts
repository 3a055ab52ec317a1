/** Text in columns: numbers to the right, all else to the left. */
export function textTable(
  header: readonly string[],
  rows: readonly (readonly (string | number | null)[])[],
): string {
  const cells = rows.map((row) => row.map((cell) => cell === null ? "-" : String(cell)));
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
  return [header, ...cells].map((row) => `${line(row)}\n`).join("");
}
