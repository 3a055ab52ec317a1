/**
 * A value as one line of JSON. All keys of ours are snake case, as in SGLang's own answers and in
 * the files of this library; this is the only place that decides it.
 */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(snakeKeys(value))}\n`;
}

function snakeKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(snakeKeys);
  if (ArrayBuffer.isView(value)) return [...(value as unknown as Iterable<number>)];
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [snakeCase(key), snakeKeys(inner)]),
  );
}

/** `weight_version` for `weightVersion`; what is snake case stays so. */
function snakeCase(key: string): string {
  return key.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
}
