/** Every key of a value of JSON, at any depth, as often as it is there. */
export function jsonKeys(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) return value.flatMap(jsonKeys);
  return Object.entries(value).flatMap(([key, inner]) => [key, ...jsonKeys(inner)]);
}
