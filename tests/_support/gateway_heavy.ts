/** Bodies that are heavy for their length, of every kind that a gateway is sent. */

const MESSAGES = "/v1/chat/completions";
const user = (content: unknown) => ({ role: "user", content });
const chat = (more: Record<string, unknown>) =>
  JSON.stringify({ model: "m", messages: [user("a")], max_tokens: 1, ...more });

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

/** A body and where it is sent. */
export interface HeavyBody {
  /** What it is heavy with. */
  readonly name: string;
  readonly path: string;
  readonly body: string;
}

/** One of each kind, each of at most `size` characters, and near that where its kind can be. */
export function heavyBodies(size: number): HeavyBody[] {
  const room = size - 400;
  const text = (of: string) => of.repeat(Math.floor(room / JSON.stringify(of).slice(1, -1).length));
  const bodies: [name: string, path: string, body: () => string][] = [
    ["words", MESSAGES, () => chat({ messages: [user(text("The fox, 12 dogs. "))] })],
    ["one word", MESSAGES, () => chat({ messages: [user(text("a"))] })],
    ["spaces", MESSAGES, () => chat({ messages: [user(text(" "))] })],
    ["Chinese", MESSAGES, () => chat({ messages: [user(text("你好世界").slice(0, room / 3))] })],
    ["emoji", MESSAGES, () => chat({ messages: [user(text("😀").slice(0, room / 4 * 2))] })],
    ["marks", MESSAGES, () => chat({ messages: [user(text("e\u0301\u0316").slice(0, room / 2))] })],
    [
      "marks in a row",
      MESSAGES,
      () => chat({ messages: [user(text("\u0301").slice(0, room / 2))] }),
    ],
    ["begins of tokens", MESSAGES, () => chat({ messages: [user(text("<|im_"))] })],
    ["tokens", MESSAGES, () => chat({ messages: [user(text("<|im_end|>"))] })],
    ["escapes", MESSAGES, () => chat({ messages: [user(text('"\n'))] })],
    ["messages", MESSAGES, () => chat({ messages: times(room / 40, (i) => user(`hi ${i}`)) })],
    [
      "5000 messages",
      MESSAGES,
      () => chat({ messages: times(Math.min(5000, room / 40), (i) => user(`hi ${i}`)) }),
    ],
    [
      "parts",
      MESSAGES,
      () => chat({ messages: [user(times(room / 30, () => ({ type: "text", text: "a" })))] }),
    ],
    [
      "unknown fields",
      MESSAGES,
      () => chat(Object.fromEntries(times(room / 16, (i) => [`field${i}`, 1]))),
    ],
    ["stop", MESSAGES, () => chat({ stop: times(room / 10, (i) => `s${i}`) })],
    [
      "logit_bias",
      MESSAGES,
      () => chat({ logit_bias: Object.fromEntries(times(room / 12, (i) => [i, 1])) }),
    ],
    ["model", MESSAGES, () => chat({ model: text("m") })],
    ["one name", MESSAGES, () => chat({ [text("n")]: 1 })],
    ["metadata", MESSAGES, () => chat({ metadata: { a: text("m") } })],
    ["tools", MESSAGES, () =>
      chat({
        tools: times(Math.min(1024, room / 200), (i) => ({
          type: "function",
          function: {
            name: `f${i}`,
            description: "d".repeat(Math.max(1, Math.floor(room / 1024) - 300)),
            parameters: { type: "object", properties: { a: { type: "string" } } },
          },
        })),
      })],
    [
      "depth",
      MESSAGES,
      () =>
        chat({ metadata: null, x: null }).slice(0, -1) +
        `,"y":${"[".repeat(room / 2)}${"]".repeat(room / 2)}}`,
    ],
    ["lists", MESSAGES, () => chat({}).slice(0, -1) + `,"y":[${"{},".repeat(room / 3)}1]}`],
    ["calls", MESSAGES, () =>
      chat({
        messages: [{
          role: "assistant",
          content: null,
          tool_calls: times(room / 90, (i) => ({
            id: `c${i}`,
            type: "function",
            function: { name: "f", arguments: "{}" },
          })),
        }],
      })],
    [
      "prompt",
      "/v1/completions",
      () => JSON.stringify({ model: "m", prompt: text("word "), max_tokens: 1 }),
    ],
    [
      "ids",
      "/v1/completions",
      () => JSON.stringify({ model: "m", prompt: times(room / 2, () => 1), max_tokens: 1 }),
    ],
    ["input", "/v1/responses", () => JSON.stringify({ model: "m", input: text("word ") })],
    [
      "items",
      "/v1/responses",
      () => JSON.stringify({ model: "m", input: times(room / 40, (i) => user(`hi ${i}`)) }),
    ],
    [
      "instructions",
      "/v1/responses",
      () => JSON.stringify({ model: "m", input: "a", instructions: text("do ") }),
    ],
    ["metadata of a response", "/v1/responses", () =>
      JSON.stringify({
        model: "m",
        input: "a",
        metadata: Object.fromEntries(times(room / 14, (i) => [`key${i}`, 1])),
      })],
    [
      "system",
      "/v1/messages",
      () =>
        JSON.stringify({ model: "m", max_tokens: 1, system: text("do "), messages: [user("a")] }),
    ],
    ["blocks", "/v1/messages", () =>
      JSON.stringify({
        model: "m",
        max_tokens: 1,
        messages: [user(times(room / 30, () => ({ type: "text", text: "a" })))],
      })],
    [
      "counted",
      "/v1/messages/count_tokens",
      () => JSON.stringify({ model: "m", messages: [user(text("word "))] }),
    ],
    [
      "counted one word",
      "/v1/messages/count_tokens",
      () => JSON.stringify({ model: "m", messages: [user(text("z"))] }),
    ],
    ["reward", "/sessions/ID/reward", () => JSON.stringify({ reward: 1, answer: text("a") })],
    [
      "fields of a reward",
      "/sessions/ID/reward",
      () => JSON.stringify(Object.fromEntries(times(room / 16, (i) => [`field${i}`, 1]))),
    ],
    ["info", "/sessions", () => JSON.stringify({ info: { a: text("i") } })],
  ];
  return bodies.map(([name, path, body]) => ({ name, path, body: body() }));
}
