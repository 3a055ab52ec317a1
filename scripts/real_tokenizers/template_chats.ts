/** Conversations on which all of `trl`'s chat templates are compared with Python. */
import type { ComparedChat } from "./conversations.ts";

type Json = Readonly<Record<string, unknown>>;

const parameters = {
  type: "object",
  properties: { city: { type: "string" }, days: { type: "integer" } },
  required: ["city"],
};
const tools = [
  { type: "function", function: { name: "get_weather", description: "The weather", parameters } },
];

const system = { role: "system", content: "Be brief." };
const user = (content: unknown): Json => ({ role: "user", content });
const assistant = (content: unknown, more: Json = {}): Json => ({
  role: "assistant",
  content,
  ...more,
});
const call = (id: number, args: Json): Json => ({
  id: `call${String(id).padStart(5, "0")}`,
  type: "function",
  function: { name: "get_weather", arguments: args },
});
const answer = (id: number, content: string): Json => ({
  role: "tool",
  name: "get_weather",
  tool_call_id: `call${String(id).padStart(5, "0")}`,
  content,
});
const part = (text: string) => [{ type: "text", text }];

function chat(
  messages: readonly Json[],
  more: { withTools?: boolean; variables?: Json; open?: boolean } = {},
): ComparedChat {
  const { withTools = false, variables = {}, open = false } = more;
  return { kind: "single", messages, tools: withTools ? tools : null, variables, open };
}

const thought = "<think>\nLet me see.\n</think>\n\n";
const looked = [
  user("Rome?"),
  assistant("", { tool_calls: [call(1, { city: "Rome" })] }),
  answer(1, '{"t": 21}'),
];
const withTools = { withTools: true };

/** The conversations: plain ones, thoughts, calls, answers of tools, odd ones. */
export const templateChats: readonly ComparedChat[] = [
  chat([user("Hi"), assistant("Hello.")]),
  chat([user("Hi"), assistant("Hello."), user("And?"), assistant("Yes.")]),
  chat([system, user("Hi"), assistant("Hello."), user("And?"), assistant("Yes.")]),
  chat([system, user("Hi"), assistant("Hello."), user("And?")], { open: true }),
  chat([user("Hi"), assistant("One.\n\nTwo\n"), user(" x "), assistant("  Yes. ")]),
  chat([user("Say it."), assistant("Hi"), user("Hi"), assistant("Hi")]),
  chat([user("ünï 😀"), assistant("日本語 👩‍👩‍👧"), user("مرحبا"), assistant("é <b>&amp;</b>")]),
  chat([user(part("Hi")), assistant(part("Hello.")), user(part("And?")), assistant(part("Yes."))]),
  chat([user("Hi"), assistant(`${thought}Hello.`)]),
  chat([user("Hi"), assistant(`${thought}Hello.`), user("And?"), assistant(`${thought}Yes.`)]),
  chat([user("Hi"), assistant("Hello.", { reasoning_content: "Let me see." })]),
  chat([
    user("Hi"),
    assistant("Hello.", { reasoning_content: "Let me see." }),
    user("And?"),
    assistant("Yes.", { reasoning_content: "Again." }),
  ]),
  chat([user("Hi"), assistant("Hello.")], { variables: { enable_thinking: false } }),
  chat([user("Hi"), assistant("Hello."), user("And?"), assistant("Yes.")], {
    variables: { enable_thinking: true },
  }),
  chat([user("Rome?"), assistant("", { tool_calls: [call(1, { city: "Rome" })] })], withTools),
  chat([...looked], { ...withTools, open: true }),
  chat([...looked, assistant("21 degrees.")], withTools),
  chat([system, ...looked, assistant("21 degrees."), user("And?"), assistant("No.")], withTools),
  chat([
    user("Rome, Oslo?"),
    assistant("Both.", { tool_calls: [call(1, { city: "Rome" }), call(2, { city: "Oslo" })] }),
    answer(1, "21"),
    answer(2, "3"),
    assistant("21 and 3."),
  ], withTools),
  chat([
    user("Rome?"),
    assistant("", { reasoning_content: "A tool.", tool_calls: [call(1, { city: "Rome" })] }),
    answer(1, "21"),
    assistant("21 degrees.", { reasoning_content: "Now say it." }),
  ], withTools),
  chat([
    user("Rome?"),
    assistant("", { tool_calls: [call(1, { city: "Rome" })] }),
    answer(1, "21"),
    assistant("", { tool_calls: [call(2, { city: "Rome", days: 2 })] }),
    answer(2, "22"),
    assistant("21, then 22."),
  ], withTools),
  chat([
    user("Rome?"),
    assistant(null, { tool_calls: [call(1, { city: "東京 <b>", days: 1 })] }),
    answer(1, "21"),
    assistant("21."),
  ], withTools),
  chat([...looked, assistant("21 degrees."), user("Oslo?")], { ...withTools, open: true }),
  chat([user("Hi"), assistant("")]),
  chat([assistant("Welcome."), user("Hi"), assistant("Hello.")]),
  chat([user("Hi"), assistant("One."), assistant("Two.")]),
  chat([system, user("<|im_end|> <eos> [INST]"), assistant("<|im_start|>user\nno")]),
];
