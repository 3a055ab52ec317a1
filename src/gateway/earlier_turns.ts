import type { Message } from "../policy/message.ts";
import type { ChatModel } from "../rollout/chat_model.ts";
import { beginsWith } from "../rollout/ids.ts";
import { prepareTurn, type TurnPrompt } from "../rollout/turn.ts";
import type { Asked } from "./asked.ts";
import { Conversations } from "./conversations.ts";
import type { ChatSetting } from "./model.ts";
import type { RecordedTurn } from "./recorded_turn.ts";
import { TEXT_ROLE } from "./text_model.ts";

/** A prompt, and the turn that it goes on from. */
export interface ContinuedPrompt {
  readonly prompt: TurnPrompt;
  readonly parent: RecordedTurn | null;
}

/** The turns of a session that a request may go on from: conversations, texts and ids. */
export class EarlierTurns {
  readonly #conversations = new Conversations();
  readonly #texts: RecordedTurn[] = [];

  /** The prompt of a request, which goes on from the longest of them that it begins with. */
  async prompt(
    asked: Asked,
    { model }: ChatSetting,
    signal: AbortSignal,
  ): Promise<ContinuedPrompt> {
    const { input } = asked;
    if (input.kind === "ids") return this.#promptOfIds(input.ids, model);
    if (input.kind === "text") {
      const messages = [{ role: TEXT_ROLE, content: input.text }];
      const parent = this.#findText(({ turn }) =>
        input.text.startsWith(turn.prompt.text + turn.message.content)
      );
      const options = { parent: parent?.turn ?? null, signal };
      return { prompt: await prepareTurn(model, messages, options), parent };
    }
    const { messages, parent } = this.#conversations.find(input.messages);
    const options = { parent: parent?.turn ?? null, signal };
    return { prompt: await prepareTurn(model, messages, options), parent };
  }

  /** Keeps a turn. */
  add(record: RecordedTurn, input: Asked["input"]): void {
    if (input.kind === "chat") this.#conversations.add(record, input.messages);
    else this.#texts.push(record);
  }

  async #promptOfIds(
    ids: Int32Array,
    model: ChatModel,
  ): Promise<ContinuedPrompt> {
    const parent = this.#findText(({ turn: { prompt, sample } }) =>
      beginsWith(ids, prompt.ids) && beginsWith(ids.subarray(prompt.ids.length), sample.ids)
    );
    const text = await model.tokenizer.decode(ids);
    const messages: Message[] = [{ role: TEXT_ROLE, content: text }];
    const written = { model, messages, text, ids, textIds: ids, drift: null, branch: null };
    const base = { ...written, givenMask: null, givenLogProbs: null };
    const kind = parent === null ? "start" : "append";
    const prompt: TurnPrompt = { ...base, kind, parent: parent?.turn ?? null };
    return { prompt, parent };
  }

  #findText(fits: (record: RecordedTurn) => boolean): RecordedTurn | null {
    const longest = this.#texts.filter(fits).toSorted((a, b) =>
      b.turn.prompt.ids.length - a.turn.prompt.ids.length
    );
    return longest[0] ?? null;
  }
}
