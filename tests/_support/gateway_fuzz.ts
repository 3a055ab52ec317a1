/** Wrong requests by the thousand over HTTP against a gateway, and what must hold meanwhile. */
import assert from "node:assert/strict";
import type { GatewaySession, RecordingGateway } from "../../src/gateway/mod.ts";
import { seeded } from "./seeded.ts";

type Body = Record<string, unknown>;

const messages = [
  { role: "system", content: "Be short" },
  { role: "user", content: [{ type: "text", text: "Talk" }] },
  {
    role: "assistant",
    content: "",
    tool_calls: [{ id: "c1", type: "function", function: { name: "add", arguments: '{"a":1}' } }],
  },
  { role: "tool", tool_call_id: "c1", content: "3" },
];
const parameters = { type: "object", properties: { a: { type: "number" } } };

/** Bodies that are right, by route; each is changed before it is sent. */
const seeds: readonly (readonly [path: string, body: Body])[] = [
  ["/v1/chat/completions", {
    model: "m",
    messages,
    tools: [{ type: "function", function: { name: "add", description: "adds", parameters } }],
    tool_choice: "auto",
    max_tokens: 2,
    temperature: 0.5,
    stop: ["x"],
    n: 1,
    logprobs: true,
    top_logprobs: 1,
    logit_bias: { "5": -1 },
    stream_options: { include_usage: true },
    chat_template_kwargs: {},
    return_token_ids: true,
  }],
  ["/v1/chat/completions", { model: "m", messages, max_tokens: 2, stream: true }],
  ["/v1/completions", { model: "m", prompt: [1, 2, 3], max_tokens: 2, logprobs: 1, stop: "x" }],
  ["/v1/completions", { model: "m", prompt: "a", max_tokens: 2, stream: true, seed: 3 }],
  ["/v1/responses", {
    model: "m",
    instructions: "Be short",
    input: [
      { role: "user", content: "Talk" },
      { type: "function_call", call_id: "c1", name: "add", arguments: "{}" },
      { type: "function_call_output", call_id: "c1", output: "3" },
    ],
    tools: [{ type: "function", name: "add", parameters }],
    max_output_tokens: 2,
    text: { format: { type: "text" } },
    stream: false,
  }],
  ["/v1/messages", {
    model: "m",
    max_tokens: 2,
    system: [{ type: "text", text: "Be short" }],
    messages: [
      { role: "user", content: "Talk" },
      { role: "assistant", content: [{ type: "tool_use", id: "c1", name: "add", input: {} }] },
      { role: "user", content: [{ type: "tool_result", tool_use_id: "c1", content: "3" }] },
    ],
    tools: [{ name: "add", input_schema: parameters }],
    tool_choice: { type: "auto" },
    stop_sequences: ["x"],
    stream: true,
  }],
  ["/v1/messages/count_tokens", { model: "m", messages: [{ role: "user", content: "Talk" }] }],
  ["/sessions", { info: { a: 1 }, limits: { max_turns: 2, idle_ms: 1000 } }],
  ["/sessions/ID/reward", { reward: 1, answer: "x" }],
  ["/sessions/OTHER/reward", { reward: 1 }],
  ["/sessions/OTHER/end", {}],
  ["/s/KEY/v1/chat/completions", { model: "m", messages: [{ role: "user", content: "a" }] }],
];

/** What values are replaced by. */
const values: readonly unknown[] = [
  null,
  true,
  "",
  "a".repeat(3000),
  "\u0000\ud800\u202e\uffff<|im_end|>",
  0,
  -1,
  1e308,
  -0.5,
  2 ** 53,
  [],
  {},
  [[[[[[]]]]]],
  { __proto__: null, constructor: { prototype: 1 } },
  [null, 1, "a", {}],
  Array.from({ length: 300 }, (_, i) => i),
  { type: "image_url", image_url: { url: "http://a/b.png" } },
  { $ref: "#" },
];
const names = [
  "__proto__",
  "constructor",
  "toString",
  "model ",
  "n",
  "stream",
  "a".repeat(200),
  "",
];
const paths = ["", "/", "/..", "//", "/%2e%2e/sessions", "/%00", "?key=1", "/x".repeat(50)];

/** What a run came to. */
export interface Fuzzed {
  readonly bodies: number;
  /** How many answers had each status. */
  readonly statuses: ReadonlyMap<number, number>;
  /** Turns of the session that went on beside them. */
  readonly witnessed: number;
}

/**
 * Sends changed bodies to all routes, and lets an honest agent talk beside them.
 *
 * @throws {AssertionError} An answer was a fault of the gateway, an error without its shape, or the
 * honest agent saw anything of it.
 */
export async function fuzzGateway(
  gateway: RecordingGateway,
  { bodies, seed, atOnce = 8 }: {
    readonly bodies: number;
    readonly seed: number;
    readonly atOnce?: number;
  },
): Promise<Fuzzed> {
  const random = seeded(seed);
  const statuses = new Map<number, number>();
  const honest = gateway.open({ limits: { maxTurns: 1e6 } });
  let hostile = gateway.open({ limits: { maxTurns: 1e6, maxTokens: 1e9 } });
  let sent = 0;
  let witnessed = 0;
  const one = async (): Promise<void> => {
    while (sent < bodies) {
      const number = sent++;
      if (hostile.isOver) hostile = gateway.open({ limits: { maxTurns: 1e6, maxTokens: 1e9 } });
      const status = await attack(gateway, { random, hostile, honest });
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      if (number % 100 === 0) {
        await witness(honest, witnessed++);
        // Nothing of a session that wrong requests opened is kept.
        for (const session of gateway.sessions) {
          if (session.id !== honest.id && session.id !== hostile.id) await session.abort();
        }
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  const { rows, reward, end } = await honest.end();
  assert.deepEqual([rows.length, reward, end], [witnessed, 0, "ended"]);
  await hostile.abort();
  assert.equal(gateway.stats.running, 0);
  return { bodies: sent, statuses, witnessed };
}

async function attack(
  gateway: RecordingGateway,
  { random, hostile, honest }: {
    readonly random: () => number;
    readonly hostile: GatewaySession;
    readonly honest: GatewaySession;
  },
): Promise<number> {
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
  const [route, right] = pick(seeds);
  const path = route.replace("ID", hostile.id).replace("OTHER", honest.id)
    .replace("KEY", random() < 0.9 ? hostile.key : honest.id) +
    (random() < 0.03 ? pick(paths) : "");
  const changed = structuredClone(right);
  const changes = 1 + Math.floor(random() ** 2 * 4);
  for (let change = 0; change < changes; change++) mutate(changed, random, pick);
  let text = JSON.stringify(changed);
  if (random() < 0.2) text = broken(text, random);
  const key = random() < 0.8 ? hostile.key : pick([honest.id, "", "wrong", "x".repeat(9000)]);
  const method = random() < 0.03 ? pick(["PUT", "DELETE", "PATCH", "OPTIONS"]) : "POST";
  const url = gateway.url + path;
  const headers: Record<string, string> = { authorization: `Bearer ${key}` };
  if (random() < 0.05) headers["x-stainless-retry-count"] = pick(["1", "-1", "NaN", "1e9"]);
  const request = { method, headers, body: text };
  const response = await fetch(url, request);
  const answer = await response.text();
  const { status } = response;
  const told = `${method} ${path} ${text.slice(0, 2000)} => ${status} ${answer.slice(0, 500)}`;
  assert.ok(status < 500, told);
  if (status < 400) return status;
  const { error } = JSON.parse(answer);
  assert.ok(typeof error.message === "string" && error.message.length > 0, told);
  assert.ok(error.message.length < 5000, `a long message: ${told}`);
  assert.equal(typeof error.type, "string", told);
  return status;
}

/** Changes one place of a body. */
function mutate(body: Body, random: () => number, pick: <T>(list: readonly T[]) => T): void {
  let at: Record<string, unknown> = body;
  for (;;) {
    const keys = Object.keys(at);
    const key = keys.length === 0 ? "x" : pick(keys);
    const inner = at[key];
    const goesIn = typeof inner === "object" && inner !== null && random() < 0.6;
    if (goesIn) {
      at = inner as Record<string, unknown>;
      continue;
    }
    const chance = random();
    if (chance < 0.15) delete at[key];
    else if (chance < 0.3) {
      Object.defineProperty(at, pick(names), own(structuredClone(pick(values))));
    } else at[key] = structuredClone(pick(values));
    return;
  }
}

function own(value: unknown): PropertyDescriptor {
  return { value, enumerable: true, configurable: true, writable: true };
}

/** Cuts, doubles or replaces a part of a text. */
function broken(text: string, random: () => number): string {
  const at = Math.floor(random() * text.length);
  const end = at + Math.floor(random() * 20);
  const parts = ["", "\u0000", "}", "[".repeat(2000), '"', "\\ud800", text.slice(at), "1e999"];
  return text.slice(0, at) + parts[Math.floor(random() * parts.length)] + text.slice(end);
}

/** An honest agent asks: its answer is whole, whatever others send. */
async function witness({ baseUrl, key }: GatewaySession, number: number): Promise<void> {
  const response = await fetch(`${baseUrl}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}` },
    body: JSON.stringify({
      model: "m",
      messages: [{ role: "user", content: `Number ${number}` }],
      max_tokens: 2,
    }),
  });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  assert.equal(JSON.parse(text).usage.completion_tokens, 2, text);
}
