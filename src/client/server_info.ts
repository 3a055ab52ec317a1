import type { z } from "zod";
import { ProtocolError } from "../errors.ts";
import { loads, modelInfo, serverInfo } from "./schema/info.ts";
import type { ModelInfo, ServerInfo } from "./types.ts";

/** Name of a setting whose value is a secret; `/server_info` answers them in clear. */
const SECRET = /(api_key|password|secret|_token$|credential|watermark_key|private_key)/i;
/** A flag for a secret. */
const SECRET_FLAG = /api-key|password|secret|watermark-key/i;

/** Checks an answer against its schema; the error names the first place that is wrong. */
export function checked<T>(schema: z.ZodType<T>, value: unknown, endpoint: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const place = issue?.path.join(".") ?? "";
  throw new ProtocolError(
    `The answer of ${endpoint} is not as expected${place && ` at "${place}"`}: ${issue?.message}`,
    { cause: result.error },
  );
}

/** Reads `/server_info`; secrets are taken out of `raw`. */
export function parseServerInfo(value: unknown): ServerInfo {
  const info = checked(serverInfo, value, "GET /server_info");
  const states = info.internal_states ?? [];
  const perRank = states.map((state) => state.effective_max_running_requests_per_dp ?? 0);
  const effective = perRank.reduce((sum, count) => sum + count, 0);
  return {
    version: info.version,
    tpSize: info.tp_size,
    dpSize: info.dp_size,
    ppSize: info.pp_size ?? 1,
    modelPath: info.model_path,
    maxRunningRequests: effective > 0 ? effective : info.max_running_requests ?? null,
    maxTotalTokens: info.max_total_num_tokens ?? null,
    maxInputTokens: info.max_req_input_len ?? null,
    vocabSize: info.vocab_size ?? null,
    raw: withoutSecrets(info) as Record<string, unknown>,
  };
}

/** Reads `/model_info`. */
export function parseModelInfo(value: unknown): ModelInfo {
  const info = checked(modelInfo, value, "GET /model_info");
  return {
    modelPath: info.model_path,
    tokenizerPath: info.tokenizer_path ?? null,
    weightVersion: info.weight_version ?? null,
    modelType: info.model_type ?? null,
    architectures: info.architectures ?? [],
    raw: info,
  };
}

/** Load of one server, its data-parallel ranks together. */
export interface ServerLoad {
  /** Requests that run. */
  readonly running: number;
  /** Requests that wait. */
  readonly waiting: number;
  /** Tokens per second, when the server tells it. */
  readonly tokensPerSecond: number | null;
  /** Largest share of a KV pool in use, when the server tells it. */
  readonly tokenUsage: number | null;
  /** Mean share of prompt tokens that the prefix cache had, when the server tells it. */
  readonly cacheHitRate: number | null;
}

/** Reads `/v1/loads`. */
export function parseLoads(value: unknown): ServerLoad {
  const ranks = checked(loads, value, "GET /v1/loads").loads;
  const known = (numbers: (number | null | undefined)[]) =>
    numbers.filter((number) => typeof number === "number");
  const throughputs = known(ranks.map((rank) => rank.gen_throughput));
  const usages = known(ranks.map((rank) => rank.token_usage));
  const hits = known(ranks.map((rank) => rank.cache_hit_rate));
  return {
    running: ranks.reduce((sum, rank) => sum + rank.num_running_reqs, 0),
    waiting: ranks.reduce((sum, rank) => sum + rank.num_waiting_reqs, 0),
    tokensPerSecond: throughputs.length === 0 ? null : throughputs.reduce((a, b) => a + b),
    tokenUsage: usages.length === 0 ? null : Math.max(...usages),
    cacheHitRate: hits.length === 0 ? null : hits.reduce((a, b) => a + b) / hits.length,
  };
}

/** The same value without what may be secret, at any depth. */
export function withoutSecrets(value: unknown): unknown {
  if (typeof value === "string") return textWithoutSecrets(value);
  if (Array.isArray(value)) return commandWithoutSecrets(value.map(withoutSecrets));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([name]) => !SECRET.test(name))
      .map(([name, inner]) => [name, withoutSecrets(inner)]),
  );
}

/** A text that may hold secrets within, such as a whole command line; read once, however it is made. */
function textWithoutSecrets(text: string): string {
  let kept = "";
  let at = 0;
  for (const { 0: word, index } of text.matchAll(/(?<![\w-])[\w-]+(?:=|\s+)(?=\S)/g)) {
    const dashes = word.indexOf("--");
    if (index < at || dashes < 0 || !SECRET_FLAG.test(word.slice(dashes))) continue;
    const secret = /\S+/y;
    secret.lastIndex = index + word.length;
    secret.test(text);
    kept += `${text.slice(at, index + word.length)}[removed]`;
    at = secret.lastIndex;
  }
  return kept + text.slice(at);
}

/** A command line as a list: the word after a flag for a secret is the secret. */
function commandWithoutSecrets(words: unknown[]): unknown[] {
  return words.map((word, i) => {
    const before = words[i - 1];
    const isSecret = typeof before === "string" &&
      SECRET_FLAG.test(/^--[\w-]*/.exec(before)?.[0] ?? "") &&
      !before.includes("=");
    return isSecret ? "[removed]" : word;
  });
}
