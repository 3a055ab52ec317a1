/** Marks of formats that are special tokens of some models: a server leaves them out of its texts. */
import { callFormats, listMarks } from "./formats.ts";
import { harmonyMarks } from "./harmony.ts";
import { thoughtMarks } from "./answer.ts";

const marks: readonly string[] = [
  ...harmonyMarks,
  ...thoughtMarks.flat(),
  ...callFormats.flatMap(({ opens }) => opens),
  ...listMarks,
];

/** Whether a text was written with marks of a format that are not in it as it is shown. */
export function hidesMarks(written: string, shown: string): boolean {
  return marks.some((mark) => count(written, mark) > count(shown, mark));
}

function count(text: string, mark: string): number {
  let found = 0;
  for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + mark.length)) found++;
  return found;
}
