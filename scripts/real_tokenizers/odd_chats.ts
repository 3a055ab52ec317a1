/** Odd conversations, on which all of `trl`'s chat templates are compared with Python as well. */
import type { ComparedChat } from "./conversations.ts";

type Json = Readonly<Record<string, unknown>>;

const nested = {
  type: "object",
  properties: {
    where: {
      type: "object",
      description: 'a "place" – où?',
      properties: { lat: { type: "number", minimum: -90.5 }, tags: { type: "array", items: {} } },
    },
    mode: { type: ["string", "null"], enum: ["a", "b", null], default: null },
    strict: { type: "boolean", default: false },
  },
  required: [],
};
const tools = [
  {
    type: "function",
    function: { name: "find", description: "Finds\nthings", parameters: nested },
  },
  {
    type: "function",
    function: { name: "now", description: "", parameters: { type: "object", properties: {} } },
  },
];

const system = (content: string): Json => ({ role: "system", content });
const user = (content: unknown): Json => ({ role: "user", content });
const assistant = (content: unknown, more: Json = {}): Json => ({
  role: "assistant",
  content,
  ...more,
});
const call = (id: number, args: unknown, name = "find"): Json => ({
  id: `call${String(id).padStart(5, "0")}`,
  type: "function",
  function: { name, arguments: args },
});
const answer = (id: number, content: unknown, name = "find"): Json => ({
  role: "tool",
  name,
  tool_call_id: `call${String(id).padStart(5, "0")}`,
  content,
});
const calls = (...given: Json[]): Json => assistant("", { tool_calls: given });

function chat(
  messages: readonly Json[],
  more: { given?: readonly unknown[]; variables?: Json; open?: boolean } = {},
): ComparedChat {
  const { given = null, variables = {}, open = false } = more;
  return { kind: "single", messages, tools: given, variables, open };
}

const odd = {
  where: { lat: -0.5, tags: ["é", "\u2028", "<a&b>", '"q"', "\\", "'", [], {}, null, true] },
  mode: null,
  strict: false,
};
const numbers = { a: 1, b: 1.5, c: 1e21, d: 1e-7, e: -3, f: 0, g: 123456789012, h: 0.1 };
const long = Array.from({ length: 40 }, (_, i): Json[] => [
  user(`Question ${i}: ${"word ".repeat(i % 7)}`),
  assistant(i % 5 === 0 ? `<think>\nhm ${i}\n</think>\n\nAnswer ${i}` : `Answer ${i}`),
]).flat();

const goOn = { continue_final_message: true };

/** The conversations. */
export const oddChats: readonly ComparedChat[] = [
  // Roles in odd orders.
  chat([user("Hi"), assistant("Hello."), system("Now rhyme."), user("And?"), assistant("Sand.")]),
  chat([user("One"), user("Two"), assistant("Three.")]),
  chat([user("One"), user("Two"), user("Three")], { open: true }),
  chat([system("A"), system("B"), user("Hi"), assistant("Hello.")]),
  chat([system("Alone."), assistant("Hello."), user("Hi")], { open: true }),
  chat([user("Hi"), assistant("Hello."), user("Bye")]),
  chat([{ role: "developer", content: "Be brief." }, user("Hi"), assistant("Hello.")]),
  chat([system(""), user("Hi"), assistant("Hello.")]),
  // Contents.
  chat([user(""), assistant("Hello."), user(""), assistant("Yes.")]),
  chat([user("Hi"), assistant("\n"), user("\t"), assistant(" \n ")]),
  chat([
    user("a\r\nb\r"),
    assistant("\u0000\u0007c"),
    user("\ufeff\u200b"),
    assistant("\u00a0x\u3000"),
  ]),
  chat([
    user("𝒜 👩‍👩‍👧 e\u0301"),
    assistant("\u2028\u0085x"),
    user("{{ x }} {% y %}"),
    assistant("{# z #}"),
  ]),
  chat([
    user("[INST] <s> </s>"),
    assistant("<|eot_id|><end_of_turn>"),
    user("<|user|>"),
    assistant("<｜User｜>"),
  ]),
  chat([user([{ type: "text", text: "a" }, { type: "text", text: "b" }]), assistant("ab")]),
  // Thoughts in some turns only.
  chat([
    user("1"),
    assistant("One.", { reasoning_content: "hm" }),
    user("2"),
    assistant("Two."),
    user("3"),
    assistant("Three.", { reasoning_content: "hm\n\nhm" }),
  ]),
  chat([
    user("1"),
    assistant("<think>a</think>b"),
    user("2"),
    assistant("<think>\n\n</think>\n\nc"),
  ]),
  chat([user("1"), assistant("a</think>b"), user("2"), assistant("<think>c")]),
  chat([user("1"), assistant("a", { reasoning_content: "" }), user("2")], {
    open: true,
    variables: { enable_thinking: false },
  }),
  chat([user("1"), assistant("", { reasoning_content: "only thoughts" })]),
  chat([user("1"), assistant("a", { reasoning_content: "  r  " }), user("2")], {
    open: true,
    variables: { enable_thinking: true },
  }),
  // Calls.
  chat([user("go"), calls(call(1, odd)), answer(1, "ok"), assistant("Done.")], { given: tools }),
  chat([user("go"), calls(call(1, numbers)), answer(1, "ok"), assistant("Done.")], {
    given: tools,
  }),
  chat([user("go"), calls(call(1, {}, "now")), answer(1, "", "now"), assistant("Done.")], {
    given: tools,
  }),
  chat([
    user("go"),
    calls(call(1, { a: 1 }), call(2, { a: "2" }), call(3, {}, "now")),
    answer(1, "1"),
    answer(2, '{"x": [1, 2.50]}'),
    answer(3, "noon", "now"),
    assistant("Done."),
  ], { given: tools }),
  chat([user("go"), calls(call(1, { a: 1 })), answer(1, [{ type: "text", text: "part" }])], {
    given: tools,
    open: true,
  }),
  chat([user("go"), calls(call(1, '{"a": 1.50, "b": "é"}')), answer(1, "ok")], {
    given: tools,
    open: true,
  }),
  chat([
    user("go"),
    assistant("I look.", { reasoning_content: "A tool?", tool_calls: [call(1, { a: [1, [2]] })] }),
    answer(1, "ok"),
    assistant("<think>\nso\n</think>\n\nDone."),
    user("again"),
    assistant("", { reasoning_content: "More.", tool_calls: [call(2, { a: "<tool_call>" })] }),
    answer(2, "</tool_response>"),
  ], { given: tools, open: true }),
  chat([user("go"), calls(call(1, { a: 1 })), user("never mind"), assistant("Well.")], {
    given: tools,
  }),
  chat([user("go"), assistant("No need.", { tool_calls: [] }), user("x")], {
    given: tools,
    open: true,
  }),
  chat([system("S"), user("Hi"), assistant("Hello.")], { given: tools }),
  chat([user("Hi")], { given: tools, open: true, variables: { enable_thinking: false } }),
  // Going on with the last message.
  chat([user("Hi"), assistant("So far ")], { variables: goOn }),
  chat(
    [user("1"), assistant("a"), user("2"), assistant("\n x \u0085", { reasoning_content: "r" })],
    {
      variables: goOn,
    },
  ),
  chat([user("Hi"), assistant("same", { reasoning_content: "same" })], { variables: goOn }),
  chat([user("Hi"), assistant("a", { reasoning_content: "hm" })], {
    variables: { continue_final_message: "reasoning_content" },
  }),
  // Very long.
  chat(long),
  chat([...long, user("last")], { open: true }),
];
