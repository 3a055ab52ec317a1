import { jsonExcess } from "../internal/json.ts";
import { callsOf, type Message, textOf } from "../policy/message.ts";
import type { ShownAnswer } from "./asked.ts";
import type { RecordedTurn } from "./recorded_turn.ts";

/** Where a conversation stands in what was recorded. */
export interface Found {
  /** The conversation, with sampled answers as they were sampled. */
  readonly messages: readonly Message[];
  /** The last recorded turn that it goes on from. */
  readonly parent: RecordedTurn | null;
}

interface Place {
  /** Messages that agents gave, by what they say. */
  readonly given: Map<string, Place>;
  /** Answers that were sampled here, by what was shown of them. */
  readonly sampled: Map<string, Answer[]>;
}

interface Answer {
  readonly record: RecordedTurn;
  readonly place: Place;
}

/**
 * The conversations of one session. An agent sends back what it was shown: an answer without its
 * thoughts, its calls as objects. Here each answer that was sampled is found again, and put in the
 * place of what was sent back, so that the conversation goes on from its ids. An answer that was
 * changed is not found: it stays as the agent sent it, and the conversation goes on from the turn
 * before. It takes time in proportion to the conversation.
 */
export class Conversations {
  readonly #root: Place = newPlace();

  /** Finds where a conversation goes on. */
  find(messages: readonly Message[]): Found {
    let place = this.#root;
    let parent: RecordedTurn | null = null;
    const known: Message[] = [];
    for (const message of messages) {
      const answer = place === unknown ? undefined : findAnswer(place, message);
      if (answer !== undefined) {
        parent = answer.record;
        known.push(parent.turn.message);
        place = answer.place;
        continue;
      }
      known.push(message);
      if (place !== unknown) place = place.given.get(givenKey(message)) ?? unknown;
    }
    return { messages: known, parent };
  }

  /** Keeps a turn at the end of the conversation that it answers, as its agent sent it. */
  add(record: RecordedTurn, asked: readonly Message[]): void {
    let place = this.#root;
    for (const message of asked) {
      const answer = findAnswer(place, message);
      if (answer !== undefined) {
        place = answer.place;
        continue;
      }
      const key = givenKey(message);
      let next = place.given.get(key);
      if (next === undefined) {
        next = newPlace();
        place.given.set(key, next);
      }
      place = next;
    }
    const key = shownKey(record.shown);
    const answers = place.sampled.get(key) ?? [];
    place.sampled.set(key, answers);
    answers.push({ record, place: newPlace() });
  }
}

/** Where nothing is known of what follows. */
const unknown: Place = newPlace();

function newPlace(): Place {
  return { given: new Map(), sampled: new Map() };
}

/** The latest answer that was shown as this message. */
function findAnswer({ sampled }: Place, message: Message): Answer | undefined {
  if (message.role !== "assistant" || sampled.size === 0) return undefined;
  const calls = callsOf(message);
  const answers = sampled.get(answerKey(textOf(message), calls));
  if (answers === undefined) return undefined;
  const reasoning = message.reasoning_content ?? null;
  const ids = (message.tool_calls ?? message.toolCalls ?? []).map(({ id }) => id);
  return answers.findLast(({ record: { shown } }) =>
    (reasoning === null || reasoning === shown.reasoning) &&
    shown.calls.every(({ id }, index) => ids[index] === undefined || ids[index] === id)
  );
}

function shownKey({ content, calls }: ShownAnswer): string {
  return answerKey(
    content,
    calls.map(({ name, arguments: json }) => ({ name, arguments: parsed(json) })),
  );
}

function answerKey(
  content: string,
  calls: readonly { readonly name: string; readonly arguments: unknown }[],
): string {
  return JSON.stringify([content, ...calls.map((call) => [call.name, call.arguments])]);
}

function givenKey(message: Message): string {
  const said = Object.entries(message)
    .filter(([, value]) => value !== undefined && value !== null)
    .sort(([a], [b]) => a < b ? -1 : 1);
  return JSON.stringify(said);
}

function parsed(json: string): unknown {
  if (jsonExcess(json) !== null) return json;
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}
