/** Calls as `<invoke name="f"><parameter name="a">1</parameter></invoke>`, whatever stands before the names. */
import { fault, type Found, namedCall, type Reading, taggedCall } from "./answer.ts";
import type { ToolCallFormat } from "./call_format.ts";
import { looseValue, type ParameterKinds } from "./parameter_kinds.ts";
import type { Scanner } from "./scanner.ts";
import { TagReader } from "./tagged_arguments.ts";

/** The tags of a family. */
export interface InvokeTags {
  /** Opens the calls. */
  readonly open: string;
  /** Ends them. */
  readonly close: string;
  /** Stands before `invoke` and `parameter`. */
  readonly prefix: string;
}

/** Tags of Step 3's calls. */
export const stepTags: InvokeTags = {
  open: "<｜tool_call_begin｜>",
  close: "<｜tool_call_end｜>",
  prefix: "steptml:",
};

/** Tags without a prefix, in a frame that is not one family's. */
export const plainTags: InvokeTags = {
  open: "<function_calls>",
  close: "</function_calls>",
  prefix: "",
};

const tagsOf = (open: string, prefix: string): InvokeTags => ({
  open: `<${open}>`,
  close: `</${open}>`,
  prefix,
});

/** Families whose calls are such tags in a frame. */
export const allInvokeTags: readonly (readonly [ToolCallFormat, InvokeTags])[] = [
  ["minimax-m2", tagsOf("minimax:tool_call", "")],
  ["deepseekv32", tagsOf("｜DSML｜function_calls", "｜DSML｜")],
  ["deepseekv4", tagsOf("｜DSML｜tool_calls", "｜DSML｜")],
  ["muse", tagsOf("atem:function_calls", "atem:")],
  ["dots", tagsOf("dots_function_call", "")],
];

/** Reads the calls behind an opening. */
export function readInvokes(
  scanner: Scanner,
  start: number,
  { tags, kinds }: { tags: InvokeTags; kinds: ParameterKinds },
): Reading {
  const { close, prefix } = tags;
  const reader = new TagReader(scanner, start);
  const invoke = new RegExp(`\\s*<${prefix}invoke\\s+name="([^"<>]*)"\\s*>`, "y");
  const end = new RegExp(`\\s*(${close})`, "y");
  const found: Found[] = [];
  for (let name = reader.take(invoke); name !== null; name = reader.take(invoke)) {
    const call = reader.isAt(/\s*\{/y)
      ? jsonCall(reader, name, prefix)
      : invokeCall(reader, name, { prefix, kinds });
    if (typeof call === "string") return reader.broken(call);
    found.push(call);
  }
  if (found.length === 0) return reader.broken("the call has no name");
  if (!reader.closes(end)) return reader.broken("something stands behind the call");
  return { end: reader.at, found, closes: [`</${prefix}parameter>`, `</${prefix}invoke>`] };
}

function invokeCall(
  reader: TagReader,
  name: string,
  { prefix, kinds }: { prefix: string; kinds: ParameterKinds },
): Found | string {
  const start = reader.at;
  const end = new RegExp(`\\s*(</${prefix}invoke>)`, "y");
  const head = new RegExp(
    `\\s*<${prefix}parameter\\s+name="([^"<>]*)"((?:\\s+[\\w-]+="[^"<>]*")*)\\s*>`,
    "y",
  );
  const given: Record<string, unknown> = {};
  while (reader.take(end) === null) {
    const at = reader.at;
    const key = reader.take(head);
    if (key === null) return "something stands between its parameters";
    const attributes = reader.since(at);
    const value = reader.value(
      new RegExp(`<${prefix}parameter(?:=|\\s+name=)|</${prefix}parameter>`, "g"),
    );
    if (value === null) return `the parameter ${key} has no end`;
    const told = /\sstring="(true|false)"/.exec(attributes)?.[1];
    const known = kinds(name, key);
    given[key] = looseValue(value, {
      type: told === "true"
        ? "string"
        : told === "false" && known.type === "string"
        ? null
        : known.type,
      // What a model marked as a text is one.
      isNullable: told !== "true" && known.isNullable,
    });
  }
  return name === "" ? fault(reader.since(start), "the call has no name") : taggedCall(
    name,
    given,
    reader.since(start),
  );
}

function jsonCall(reader: TagReader, name: string, prefix: string): Found {
  const body = reader.json(`</${prefix}invoke>`, []);
  return namedCall(name, body, body);
}
