/** Requests and comparisons for the tests side by side. */
import assert from "node:assert/strict";

/** A JSON object. */
export type Json = Record<string, unknown>;

/** POSTs a body, or GETs without one. */
export async function send(
  url: string,
  path: string,
  body?: Json,
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(url + path, {
    method: body === undefined ? "GET" : "POST",
    headers: { "content-type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  try {
    return { status: response.status, body: JSON.parse(text) };
  } catch {
    return { status: response.status, body: text };
  }
}

/** All keys of a value, with their paths; lists count by their first item. */
export function keysOf(value: unknown, path = ""): string[] {
  if (Array.isArray(value)) return value.length === 0 ? [] : keysOf(value[0], `${path}[]`);
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => [
    `${path}.${key}`.replace(/^\./, ""),
    ...keysOf(inner, `${path}.${key}`),
  ]).map((key) => key.replace(/^\./, "")).sort();
}

/** Log-probabilities may differ by this much: the real server computes in other orders. */
const tolerance = 1e-3;

/** Fields that say when, how fast and by which id. */
const volatile = [
  "id",
  "e2e_latency",
  "response_sent_to_client_ts",
  "cached_tokens",
  "cached_tokens_details",
];

/** Asserts that two answers of `/generate` are equal but for time, ids and rounding. */
export function compareAnswers(ours: unknown, real: unknown): void {
  const [left, right] = [withoutVolatile(ours), withoutVolatile(real)];
  assert.deepEqual(keysOf(left), keysOf(right));
  compare(left, right, "");
}

function compare(ours: unknown, real: unknown, path: string): void {
  if (typeof ours === "number" && typeof real === "number") {
    assert.ok(Math.abs(ours - real) <= tolerance, `${path}: ${ours} is not ${real}`);
  } else if (typeof ours === "object" && typeof real === "object" && ours && real) {
    const [left, right] = [ours as Json, real as Json];
    assert.deepEqual(Object.keys(left), Object.keys(right), path);
    for (const key of Object.keys(left)) compare(left[key], right[key], `${path}.${key}`);
  } else assert.equal(ours, real, path);
}

function withoutVolatile(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutVolatile);
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value).filter(([key]) => !volatile.includes(key));
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutVolatile(inner)]));
}
