/** What a value is, in a few words, however large it is: for messages. */
export function inBrief(value: unknown, maxChars = 100): string {
  if (typeof value === "string") {
    const isLong = value.length > maxChars;
    return JSON.stringify(isLong ? value.slice(0, maxChars) : value) + (isLong ? "…" : "");
  }
  if (typeof value === "bigint") return `${value}`.slice(0, maxChars);
  if (typeof value === "function") return "a function";
  if (typeof value === "symbol") return "a symbol";
  if (Array.isArray(value)) {
    return isShort(value) ? cut(JSON.stringify(value), maxChars) : `a list of ${value.length}`;
  }
  if (typeof value !== "object" || value === null) return String(value);
  return "an object";
}

/** At most eight simple values. */
function isShort(list: readonly unknown[]): boolean {
  return list.length <= 8 &&
    list.every((item) =>
      item === null || ["number", "boolean"].includes(typeof item) ||
      (typeof item === "string" && item.length <= 40)
    );
}

function cut(text: string, maxChars: number): string {
  return text.length > maxChars ? `${text.slice(0, maxChars)}…` : text;
}
