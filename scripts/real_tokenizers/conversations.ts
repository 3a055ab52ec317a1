/** Texts and conversations on which tokenizers and templates are compared with Python. */

/** A conversation, as JSON that both sides read. */
export interface ComparedChat {
  /** Kind of the conversation, for the table. */
  readonly kind: "single" | "dialog" | "thinking" | "tools" | "thinking and tools";
  /** OpenAI's shape. */
  readonly messages: readonly Record<string, unknown>[];
  /** Tools, or `null`. */
  readonly tools: readonly unknown[] | null;
  /** Variables of the template. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** Whether it ends with the opening of an assistant's turn. */
  readonly open: boolean;
}

/** Texts of many kinds. */
export const texts: readonly string[] = [
  "",
  " ",
  "\n\n",
  "What is the capital of France?",
  "   leading, trailing   ",
  "\ttabs\t\r\nand\r\nlines\n\n\n",
  "👩‍👩‍👧‍👦 🇫🇷 👍🏽 🫠 𝒜 𐍈",
  "你好，世界！日本語のテキスト 한국어 텍스트",
  "مرحبا بالعالم שלום ‏",
  "नमस्ते दुनिया สวัสดีชาวโลก",
  "e\u0301 vs é, a\u030a vs å, Z\u0351\u036b\u0343, ﬁ ½ ² Ⅷ",
  "a\u200bb\u200d\ufeffc\u00a0d\u2028e\u0085f\u3000g",
  "\u0007\u0001\u001b[31m",
  "it'ſ DON'T we'll I'M 1234567890 12.5e-3 6,789",
  "def f(x):\n    return [i ** 2 for i in range(x)]  # ok\n",
  '<html><b class="x">&amp; \'q\'</b></html> {"k": [1, true, null]} \\n',
  "{{ x }} {% if y %} {# z #}",
  "<|im_start|>user\nhi<|im_end|> <|eot_id|> <｜User｜>x<｜Assistant｜> </s> <bos> <end_of_turn>",
  "<think>\nhm\n</think>\n\nok <tool_call>{}</tool_call>",
  "word ".repeat(200),
  "日月星辰".repeat(100),
  "\u{1fae0}".repeat(7) + "x",
  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
  "private \ue000 unassigned \u0378 last \u{10fffd}",
];

const tools = [{
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather é <b>",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string", description: "where" },
        days: { type: "array", items: { type: "number" } },
      },
      required: ["city"],
    },
  },
}];

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string | null, more = {}) => ({ role: "assistant", content, ...more });

/** A turn that calls a tool, its answer, and what is said then. */
function toolTurn(index: number): Record<string, unknown>[] {
  // Calls in OpenAI's shape; templates that want a text for the arguments get one.
  const call = {
    id: `call${String(index).padStart(5, "0")}`,
    type: "function",
    function: { name: "get_weather", arguments: { city: "東京 <b>", days: [index, index + 0.5] } },
  };
  return [
    assistant("", { tool_calls: [call] }),
    { role: "tool", name: "get_weather", tool_call_id: call.id, content: `{"t": ${index}}` },
    assistant(`It is ${index} degrees.`),
  ];
}

/** Five turns, of which all prompts are compared. */
function dialog(
  kind: ComparedChat["kind"],
  variables: Readonly<Record<string, unknown>>,
): ComparedChat[] {
  const isThinking = kind.includes("thinking");
  const hasTools = kind.includes("tools");
  const messages: Record<string, unknown>[] = [{ role: "system", content: "Be brief." }];
  const chats: ComparedChat[] = [];
  const given = hasTools ? tools : null;
  for (let turn = 0; turn < 5; turn++) {
    messages.push(user(`Question ${turn}: ${texts[3 + turn]}`));
    chats.push({ kind, messages: [...messages], tools: given, variables, open: true });
    if (hasTools && turn % 2 === 0) messages.push(...toolTurn(turn));
    else {
      const thoughts = isThinking ? `<think>\nthought ${turn}\n</think>\n\n` : "";
      messages.push(assistant(`${thoughts}Answer ${turn}: ${texts[8 + turn]}`));
    }
    chats.push({ kind, messages: [...messages], tools: given, variables, open: false });
  }
  return chats;
}

/** All conversations. */
export function comparedChats(): ComparedChat[] {
  const shown = texts.filter((text) => text.length < 400);
  const singles = shown.flatMap((text): ComparedChat[] => [
    { kind: "single", messages: [user(text)], tools: null, variables: {}, open: true },
    {
      kind: "single",
      messages: [user("hi"), assistant(text), user("and?"), assistant("yes")],
      tools: null,
      variables: {},
      open: false,
    },
  ]);
  const reasoning: ComparedChat = {
    kind: "single",
    messages: [user("q"), assistant("ans", { reasoning_content: "because" })],
    tools: null,
    variables: {},
    open: false,
  };
  return [
    ...singles,
    reasoning,
    ...dialog("dialog", {}),
    ...dialog("dialog", { enable_thinking: false }),
    ...dialog("thinking", {}),
    ...dialog("thinking", { enable_thinking: true }),
    ...dialog("tools", {}),
    ...dialog("thinking and tools", {}),
  ];
}
