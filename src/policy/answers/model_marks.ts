/** Which marks a model writes: another family's are words of its answers. */
import { thoughtMarks } from "./answer.ts";
import type { CallFormat, ToolCallFormat } from "./call_format.ts";
import { callFormats, listMarks } from "./formats.ts";
import { harmonyMarks } from "./harmony.ts";
import { allMarks, type Marks } from "./take_apart.ts";

/** How a model writes its answers. */
export interface AnswerFormat {
  /** Ways in which it writes calls; `null` where nobody knows, which is any of them. */
  readonly formats: readonly ToolCallFormat[] | null;
  /** Marks that open its thoughts; `null` where nobody knows. */
  readonly thoughts: readonly string[] | null;
}

/** What tells that a model writes calls so: in its template, or as a token of its own. */
const signs: readonly (readonly [ToolCallFormat, readonly string[]])[] = [
  ...callFormats.map(({ name, opens }) => [name, opens] as const),
  ["llama3", ["<|python_tag|>"]],
  ["gpt-oss", [harmonyMarks[0]]],
  ["deepseekv3", listMarks.slice(0, 2)],
  ["kimi_k2", listMarks.slice(2, 4)],
  ["step3", listMarks.slice(4)],
  ["deepseekv32", ["｜DSML｜"]],
  ["deepseekv4", ["｜DSML｜"]],
  ["command_r", ["Write 'Action:' followed by a json"]],
  ["phi4_mini_json", ["<|tool|>"]],
];

/** Finds out how a model writes its answers, by its template and its tokens. */
export function answerFormatOf(
  { template, hasToken }: { template: string; hasToken: (token: string) => boolean },
): AnswerFormat {
  const isKnown = (sign: string) => template.includes(sign) || hasToken(sign);
  const formats = new Set(
    signs.flatMap(([name, marks]) => marks.some(isKnown) ? [name] : []),
  );
  const thoughts = thoughtMarks.flatMap(([open]) => isKnown(open) ? [open] : []);
  return {
    formats: formats.size === 0 ? null : [...formats],
    thoughts: formats.size + thoughts.length === 0 ? null : thoughts,
  };
}

/** The marks of a model. Any may be asked to think in `<think>`. */
export function marksOf({ formats, thoughts }: Partial<AnswerFormat>): Marks {
  if (!formats && !thoughts) return allMarks;
  return {
    formats: formats ? callFormats.filter(({ name }) => formats.includes(name)) : callFormats,
    thoughts: thoughts
      ? allMarks.thoughts.filter(([open]) => open === "<think>" || thoughts.includes(open))
      : allMarks.thoughts,
  };
}

/** Everything that opens a call of a tool, or stands around calls, of any family. */
export const allCallMarks: readonly string[] = [
  ...callFormats.flatMap(({ opens }) => opens),
  ...listMarks,
  ...harmonyMarks,
];

/** Whether a text was written with marks of a model that are not in it as it is shown. */
export function hidesMarks(
  { written, shown }: { written: string; shown: string },
  format: Partial<AnswerFormat>,
): boolean {
  const { formats, thoughts } = marksOf(format);
  const isListed = (one: CallFormat) => ["deepseekv3", "kimi_k2", "step3"].includes(one.name);
  const marks = [
    ...(format.formats?.includes("gpt-oss") ?? true ? harmonyMarks : []),
    ...thoughts.flat(),
    ...formats.flatMap(({ opens }) => opens),
    ...(formats.some(isListed) ? listMarks : []),
  ];
  return marks.some((mark) => count(written, mark) > count(shown, mark));
}

function count(text: string, mark: string): number {
  let found = 0;
  for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + mark.length)) found++;
  return found;
}
