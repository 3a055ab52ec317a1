/** Names of what is known of an operation, by OpenTelemetry's conventions where these have one. */
import type { Attributes, AttributeValue } from "@opentelemetry/api";
import type { Facts, Operation, OperationName } from "../internal/observe.ts";

/** Facts of a request, by the conventions for generative AI. */
const generateNames: Readonly<Record<string, string>> = {
  model: "gen_ai.request.model",
  rid: "sglang_rl.request.id",
  samples: "gen_ai.request.choice.count",
  isStream: "gen_ai.request.stream",
  maxNewTokens: "gen_ai.request.max_tokens",
  temperature: "gen_ai.request.temperature",
  topP: "gen_ai.request.top_p",
  topK: "gen_ai.request.top_k",
  frequencyPenalty: "gen_ai.request.frequency_penalty",
  presencePenalty: "gen_ai.request.presence_penalty",
  seed: "gen_ai.request.seed",
  id: "gen_ai.response.id",
  promptTokens: "gen_ai.usage.input_tokens",
  cachedTokens: "gen_ai.usage.cache_read.input_tokens",
  outputTokens: "gen_ai.usage.output_tokens",
  firstTokenSeconds: "gen_ai.response.time_to_first_chunk",
  queuedMs: "sglang_rl.request.queued_ms",
  weightVersion: "sglang_rl.weight_version",
};

/** What the operation is called in a trace. */
export function spanNameOf({ name, facts }: Operation): string {
  if (name === "generate") {
    return facts.model === undefined ? "generate_content" : `generate_content ${facts.model}`;
  }
  if (name === "sync.step") return `sync ${facts.step}`;
  return `sglang_rl.${name}`;
}

/** Everything that is known, under its names. */
export function attributesOf(name: OperationName, facts: Facts): Attributes {
  const attributes: Attributes = {};
  if (name === "generate") {
    attributes["gen_ai.operation.name"] = "generate_content";
    attributes["gen_ai.provider.name"] = "sglang";
  }
  for (const [fact, value] of Object.entries(facts)) {
    if (value === undefined || fact === "error") continue;
    if (fact === "server") Object.assign(attributes, addressOf(String(value)));
    else if (fact === "finishReasons") {
      attributes["gen_ai.response.finish_reasons"] = String(value).split(",");
    } else {
      const known = name === "generate" ? generateNames[fact] : undefined;
      attributes[known ?? `sglang_rl.${name}.${snakeCase(fact)}`] = value as AttributeValue;
    }
  }
  return attributes;
}

/** The address of a server as the conventions take it apart. */
export function addressOf(url: string): Attributes {
  const parsed = URL.parse(url);
  if (parsed === null) return { "server.address": url };
  const port = Number(parsed.port || (parsed.protocol === "https:" ? 443 : 80));
  return { "server.address": parsed.hostname, "server.port": port };
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
