/** Calls of given tools in spellings that nobody here reads: they are told, and are no answer. */
import { fault, type ToolCallFault } from "./answer.ts";
import { withoutCode } from "./code_spans.ts";
import { describedTool } from "./parameter_kinds.ts";

/** How far behind a mark the name of the tool may stand. */
const NEAR = 200;

/** What a call is written like; the group is the name of the tool. */
const spellings: readonly RegExp[] = [
  // A key of JSON: {"name": "add"}, also in Python's quotes.
  /["'](?:name|tool_name|tool|function|function_name|action|recipient_name)["']\s{0,20}:\s{0,20}["']([^"'\n]{1,128})["']/g,
  // A tag: <function name="add">, <invoke name='add'>, <|open|>call tool="add", <function=add>.
  /(?:function|invoke|tool|call)[\w:]{0,32}\s{0,20}(?:(?:name|tool|function)\s{0,20})?=\s{0,20}["']?([\w.:-]{1,128})/g,
  // DeepSeek's, of which a server left the special tokens out: function, the name, a fence of JSON.
  /^[ \t]{0,20}function([\w.:-]{1,128})[ \t]{0,20}$/gm,
  // What agents of the ReAct kind write.
  /^[ \t]{0,20}Action:[ \t]{0,20}([\w.-]{1,128})[ \t]{0,20}$/gm,
];

/** A mark that says that a call follows: <…tool_call…>, <|function_call|>, [TOOL_CALL], ✿FUNCTION✿. */
const mark =
  /<[^<>\s]{0,40}(?:tool|function)[_▁ -]?calls?[^<>\s]{0,40}>|\[TOOL_CALLS?\b[^\]\n]{0,40}\]|✿FUNCTION✿/gi;

/** Code that is a call: Gemma 3 is asked for it in such a fence. */
const fence = /```(?:tool|function)_(?:code|calls?)\b/g;

/** The answer as a fault where it seems to call a given tool, or `null`. */
export function unreadCalls(
  text: string,
  tools: readonly unknown[] | undefined,
): readonly ToolCallFault[] | null {
  const names = new Set(
    (tools ?? []).map((tool) => describedTool(tool).name)
      .filter((name): name is string => typeof name === "string" && name !== ""),
  );
  if (names.size === 0 || !seemsToCall(text, names)) return null;
  const reason = "this looks like a call of a tool, but it is not in a way that can be read; the " +
    "option toolCallFormats names the ways, readAnswer takes a reader of your own";
  return [fault(text, reason).fault];
}

function seemsToCall(text: string, names: ReadonlySet<string>): boolean {
  const isName = (name: string) =>
    names.has(name) || names.has(name.replace(/^functions\./, "").replace(/:\d+$/, ""));
  const mentions = (text: string, at: number) =>
    text.slice(at, at + NEAR).match(/[\w.-]+/g)?.some(isName) ?? false;
  for (const found of text.matchAll(fence)) if (mentions(text, found.index)) return true;
  const said = wholeCode(text) ?? withoutCode(text);
  for (const spelling of spellings) {
    for (const found of said.matchAll(spelling)) if (isName(found[1]!.trim())) return true;
  }
  for (const found of said.matchAll(mark)) {
    if (mentions(said, found.index + found[0].length)) return true;
  }
  const python = pythonName(said);
  return python !== null && isName(python);
}

/** The code, where a whole answer is one piece of it: that quotes nothing, it is what was said. */
function wholeCode(text: string): string | null {
  const plain = text.trim();
  const open = /^(?:(`{3,}|~{3,})[^`\n]{0,40}\n|(`{1,2})(?!`))/.exec(plain);
  if (open === null) return null;
  const close = open[1] ?? open[2]!;
  if (plain.length < open[0].length + close.length || !plain.endsWith(close)) return null;
  const code = plain.slice(open[0].length, -close.length);
  return code.includes(close) ? null : code;
}

/** The name where a whole answer is one call in Python, or a list that begins with one, on a line. */
function pythonName(said: string): string | null {
  const plain = said.trim();
  const head = /^(?:print\(|\[)?([A-Za-z_][\w.]*)\(/.exec(plain);
  if (head === null) return null;
  const rest = (plain.endsWith("]") ? plain.slice(0, -1).trimEnd() : plain).slice(head[0].length);
  return rest.endsWith(")") && !rest.includes("\n") ? head[1]! : null;
}
