import { ROLLOUT_SCHEMA, type RolloutRecord } from "./record.ts";
import { toBase64 } from "../internal/text_of_bytes.ts";

/** What a line of JSON holds of a row; its text is that of the answer, its versions come apart. */
export interface RowOfLine
  extends Omit<RolloutRecord, "responseText" | "tokenVersions" | "messages" | "response"> {
  readonly messages: NonNullable<RolloutRecord["messages"]>;
  readonly response: NonNullable<RolloutRecord["response"]>;
}

/**
 * One line of JSON lines, the only place that knows their names. The lists of numbers are joined rather
 * than copied into plain arrays, which would be garbage of several times the size of the row.
 *
 * @param tokenVersions The versions of the sampled ids, as JSON.
 * @param further What stands behind all else, as JSON: `,"name":value` for each.
 */
export function rowLine(row: RowOfLine, tokenVersions: string, further = ""): string {
  const ids = row.promptIds === null ? "null" : `[${row.promptIds.join()}]`;
  const before = JSON.stringify({
    schema: ROLLOUT_SCHEMA,
    dialog: row.dialog,
    attempt: row.attempt,
    group: row.group,
    member: row.member,
    environment: row.environment,
    turn: row.turn,
    parent: row.parent,
    branch: row.branch,
    messages: row.messages,
    response: row.response,
  });
  const after = JSON.stringify({
    versions_exact: row.versionsExact,
    weight_versions: row.weightVersions,
    ...routedFields(row.routedExperts),
    server: row.server,
  });
  const end = JSON.stringify({
    done: row.done,
    truncated: row.truncated,
    finish_reason: row.finishReason,
    stale: row.stale,
  });
  return `${before.slice(0, -1)},"prompt_ids":${ids},"response_ids":[${row.responseIds.join()}],` +
    `"log_probs":${realList(row.logProbs)},"token_versions":${tokenVersions},` +
    `${after.slice(1, -1)},"reward":${realText(row.reward)},${end.slice(1, -1)},` +
    `"info":${infoText(row.info)}${further}}\n`;
}

/** The experts as base64 of int32, little-endian, `(tokens, layers, top-k)`; nothing where unknown. */
function routedFields(experts: RolloutRecord["routedExperts"]): Record<string, unknown> {
  if (experts === null || experts === undefined) return {};
  const { start, tokens, perToken, data } = experts;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { routed_experts: { start, tokens, per_token: perToken, data: toBase64(bytes) } };
}

/** A number that reads back as what it is: JSON's own readers take `1e999` for infinity. */
export function realText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? '"NaN"' : value > 0 ? "1e999" : "-1e999";
}

/** Numbers of JSON; a log-probability of -Infinity is `null`. */
function realList(values: Float32Array | null): string {
  if (values === null) return "null";
  if (values.every(Number.isFinite)) return `[${values.join()}]`;
  return `[${Array.from(values, (one) => one === -Infinity ? "null" : realText(one)).join()}]`;
}

const { rawJSON } = JSON as unknown as { rawJSON?: (text: string) => unknown };

/** What the environment kept, infinities too. */
export function infoText(info: unknown): string {
  const text = JSON.stringify(info);
  // The slower way only where something may have become `null`.
  if (rawJSON === undefined || !text.includes("null")) return text;
  return JSON.stringify(
    info,
    (_key, value) => value === Infinity || value === -Infinity ? rawJSON(realText(value)) : value,
  );
}
