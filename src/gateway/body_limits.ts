import { isRecord } from "../internal/json.ts";
import { tooMany } from "./body_scan.ts";
import { invalid } from "./fault.ts";
import type { GatewayLimits } from "./options.ts";

type Body = Readonly<Record<string, unknown>>;

/** Fields of the APIs by the limit on how many they hold. */
const COUNTED = {
  maxMessages: ["messages", "input"],
  maxTools: ["tools"],
  maxStops: ["stop", "stop_sequences", "stop_token_ids", "stop_regex"],
  maxLogitBias: ["logit_bias"],
} as const;
const WORDS = {
  maxMessages: "messages",
  maxTools: "tools",
  maxStops: "of them",
  maxLogitBias: "tokens",
};
/** Lists within a message. */
const PARTS = ["content", "tool_calls", "output", "summary"] as const;
/** What `metadata` may hold, as OpenAI has it: a response shows it again. */
const METADATA = { entries: 16, name: 64, value: 512 };

/** Names and ids, at each place where they stand. */
const NAMES = ["role", "type", "name", "id", "call_id", "tool_call_id", "tool_use_id"] as const;

/**
 * Refuses what is too much before anything is made of a body. Only what is read is counted: what is not
 * known is refused by its API.
 *
 * @throws {GatewayRefusal} That names the place and the limit.
 */
export function checkBody(body: Body, limits: GatewayLimits): void {
  for (const limit of Object.keys(COUNTED) as (keyof typeof COUNTED)[]) {
    for (const name of COUNTED[limit]) {
      if (sizeOf(body[name]) > limits[limit]) {
        throw tooMany(WORDS[limit], limit, limits[limit], name);
      }
    }
  }
  const short = (value: unknown, place: string) => {
    if (typeof value !== "string" || value.length <= limits.maxNameLength) return;
    throw invalid(
      `"${place}" has ${value.length} characters. The gateway's limits.maxNameLength allows ` +
        `${limits.maxNameLength}`,
      place,
    );
  };
  for (const name of ["model", "previous_response_id", "service_tier"]) short(body[name], name);
  for (const name of COUNTED.maxStops) {
    const value = body[name];
    for (const one of Array.isArray(value) ? value : [value]) short(one, name);
  }
  const named = (value: unknown, place: string) => {
    if (!isRecord(value)) return;
    for (const name of NAMES) short(value[name], `${place}.${name}`);
  };
  for (const [index, tool] of listIn(body.tools).entries()) {
    named(tool, `tools[${index}]`);
    if (isRecord(tool)) named(tool.function, `tools[${index}].function`);
  }
  for (const list of COUNTED.maxMessages) {
    for (const [index, message] of listIn(body[list]).entries()) {
      if (!isRecord(message)) continue;
      named(message, `${list}[${index}]`);
      for (const name of PARTS) {
        const parts = listIn(message[name]);
        const place = `${list}[${index}].${name}`;
        if (parts.length > limits.maxParts) {
          throw tooMany("parts", "maxParts", limits.maxParts, place);
        }
        for (const [at, part] of parts.entries()) {
          named(part, `${place}[${at}]`);
          if (isRecord(part)) named(part.function, `${place}[${at}].function`);
        }
      }
    }
  }
  checkMetadata(body.metadata);
}

function checkMetadata(metadata: unknown): void {
  if (!isRecord(metadata)) return;
  const entries = Object.entries(metadata);
  const isSmall = entries.length <= METADATA.entries &&
    entries.every(([name, value]) =>
      name.length <= METADATA.name &&
      (typeof value === "string" ? value.length <= METADATA.value : !isObject(value))
    );
  if (isSmall) return;
  throw invalid(
    `"metadata" may have ${METADATA.entries} entries, each with a name of ${METADATA.name} characters ` +
      `and a text of ${METADATA.value}`,
    "metadata",
  );
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function listIn(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function sizeOf(value: unknown): number {
  if (Array.isArray(value)) return value.length;
  return isRecord(value) ? Object.keys(value).length : 0;
}
