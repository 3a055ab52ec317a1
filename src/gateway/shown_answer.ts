import { type ReadAnswer, thoughtMarks } from "../policy/answers/answer.ts";
import { allCallMarks } from "../policy/answers/model_marks.ts";
import { type AnswerReader, readAnswer } from "../policy/answers/read_answer.ts";
import { callsOf, type Message, textOf } from "../policy/message.ts";
import type { Tokenizer } from "../policy/tokenizer.ts";
import type { ShownAnswer, ShownCall } from "./asked.ts";
import { newId } from "./ids.ts";

/** Readings that are kept between a turn's end and its showing. */
const KEPT_READINGS = 256;

/** A reader that remembers what it read, so that an answer is not read a second time to be shown. */
export class RememberingReader {
  readonly #inner: AnswerReader;
  readonly #read = new Map<string, ReadAnswer>();

  constructor(inner: AnswerReader | undefined) {
    this.#inner = inner ?? readAnswer;
  }

  /** Reads an answer. */
  readonly read: AnswerReader = async (text, options) => {
    const answer = await this.#inner(text, options);
    this.#read.delete(text);
    this.#read.set(text, answer);
    if (this.#read.size > KEPT_READINGS) this.#read.delete(this.#read.keys().next().value!);
    return answer;
  };

  /** How a text was read last. */
  of(text: string): ReadAnswer | undefined {
    return this.#read.get(text);
  }
}

/** Shows a message to an agent: thoughts, what is said and calls apart from each other. */
export function showAnswer(message: Message, reader: RememberingReader): ShownAnswer {
  const text = textOf(message);
  const given = message.toolCalls ?? [];
  const calls = callsOf(message).map((call, index): ShownCall => ({
    id: idOf(given[index]),
    name: call.name,
    arguments: JSON.stringify(call.arguments),
  }));
  // Where marks are special tokens, the message has its parts apart already.
  if (typeof message.reasoning_content === "string") {
    return { content: text, reasoning: message.reasoning_content, calls };
  }
  const read = reader.of(text);
  const reasoning = read?.reasoning ?? null;
  const faults = read?.faults ?? [];
  if (read === undefined || (calls.length === 0 && reasoning === null && faults.length === 0)) {
    return { content: text, reasoning: null, calls };
  }
  // What was meant as a call and is none is shown, so that the agent can tell the model.
  const said = [read.content, ...faults.map((fault) => fault.text)].filter((one) => one !== "");
  return { content: said.join("\n"), reasoning, calls };
}

function idOf(call: unknown): string {
  const { id } = (call ?? {}) as { readonly id?: unknown };
  return typeof id === "string" && id !== "" ? id : newId("call_");
}

const marks = [...allCallMarks, ...thoughtMarks.flat()];

/** Whether a server leaves marks of calls or thoughts out of the text of an answer. */
export async function hidesAnyMark(tokenizer: Tokenizer): Promise<boolean> {
  const whole = new Set(tokenizer.wholeTokens ?? []);
  for (const mark of marks) {
    const id = whole.has(mark) ? tokenizer.idOf(mark) : null;
    if (id === null) continue;
    if (await tokenizer.decode([id], { skipSpecialTokens: true }) === "") return true;
  }
  return false;
}
