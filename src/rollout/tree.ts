import type { Message } from "../policy/message.ts";
import type { ChatModel, Sampler, SignalOptions } from "./chat_model.ts";
import { messageKey } from "./message_key.ts";
import { endTurn, prepareTurn, sampleTurn, type Turn, type TurnPrompt } from "./turn.ts";
import type { Generation } from "../client/types.ts";

/** A row of a tree: turns whose ids go on from each other. */
export interface TreeRow {
  /** The turns, first to last; the last one's prompt and answer are the row's ids. */
  readonly turns: readonly Turn[];
  /** Index of the row in the list. */
  readonly branch: number;
  /** Index of the row that the conversation comes from; `null` where it began. */
  readonly parent: number | null;
}

interface Place {
  readonly next: Map<string, Place>;
  /** Turns whose conversation ends with the message of this place, in order. */
  readonly turns: Turn[];
}

/**
 * The turns of one session: conversations that go on, are edited, or asked again. A conversation that
 * begins with a turn's messages and its answer goes on from that turn; one that was edited goes on
 * from the last turn before the edit, or begins again; asked again, a prompt gets a second answer.
 *
 * Every turn is in exactly one of the {@linkcode TurnTree.rows}, with the ids that it was sampled
 * with. It takes time linear in the conversation to find where one goes on.
 */
export class TurnTree {
  /** What turns are made with. */
  readonly model: ChatModel;
  readonly #root: Place = newPlace();
  readonly #turns: Turn[] = [];

  /** An empty tree. */
  constructor(model: ChatModel) {
    this.model = model;
  }

  /** All turns, in the order in which they were sampled. */
  get turns(): readonly Turn[] {
    return this.#turns;
  }

  /** The latest turn that a conversation goes on from; `null` when there is none. */
  find(messages: readonly Message[]): Turn | null {
    let place = this.#root;
    let found: Turn | null = null;
    for (const message of messages) {
      const next = place.next.get(messageKey(message));
      if (next === undefined) break;
      place = next;
      found = place.turns.at(-1) ?? found;
    }
    return found;
  }

  /**
   * The ids of a conversation that an assistant is to go on with: behind the turn that it goes on
   * from, as {@linkcode prepareTurn} does.
   *
   * @throws {ValidationError} For messages that the template refuses.
   */
  async prepare(messages: readonly Message[], options: SignalOptions = {}): Promise<TurnPrompt> {
    return await prepareTurn(this.model, messages, { ...options, parent: this.find(messages) });
  }

  /** Prepares a conversation, samples its answer and keeps the turn. */
  async sample(
    messages: readonly Message[],
    sampler: Sampler,
    options: SignalOptions = {},
  ): Promise<Turn> {
    return this.add(await sampleTurn(await this.prepare(messages, options), sampler, options));
  }

  /** Keeps the turn of a prompt that was sampled by other means, for example as a stream. */
  async end(
    prompt: TurnPrompt,
    generation: Generation,
    options: SignalOptions = {},
  ): Promise<Turn> {
    return this.add(await endTurn(prompt, generation, options));
  }

  /** Keeps a turn. */
  add(turn: Turn): Turn {
    let place = this.#root;
    for (const message of [...turn.prompt.messages, turn.message]) {
      const key = messageKey(message);
      let next = place.next.get(key);
      if (next === undefined) {
        next = newPlace();
        place.next.set(key, next);
      }
      place = next;
    }
    place.turns.push(turn);
    this.#turns.push(turn);
    return turn;
  }

  /**
   * The turns as rows: a turn whose ids go on from another's goes on with its row, unless an earlier
   * turn did; every other turn begins a row.
   */
  rows(): TreeRow[] {
    return rowsOfTurns(this.#turns);
  }
}

/** The turns of a tree, in the order in which they were sampled, as {@linkcode TurnTree.rows}. */
export function rowsOfTurns(all: readonly Turn[]): TreeRow[] {
  const rows: { turns: Turn[]; branch: number; parent: number | null }[] = [];
  const rowOf = new Map<Turn, number>();
  for (const turn of all) {
    const { kind, parent } = turn.prompt;
    const from = parent === null ? null : rowOf.get(parent) ?? null;
    const goesOn = kind === "append" && from !== null && rows[from]!.turns.at(-1) === parent;
    const branch = goesOn ? from : rows.length;
    if (goesOn) rows[from]!.turns.push(turn);
    else rows.push({ turns: [turn], branch, parent: from });
    rowOf.set(turn, branch);
  }
  return rows;
}

function newPlace(): Place {
  return { next: new Map(), turns: [] };
}
