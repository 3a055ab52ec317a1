import { StateError, ValidationError } from "../errors.ts";
import {
  type BatchShape,
  checkRowCount,
  describe,
  flattenRows,
  type Nested,
  nestRows,
  rowCount,
} from "./batch_shape.ts";
import { asMessage, isMessage, type Message, NO_ROLE } from "./message.ts";
import { parseChat } from "./templates/parse.ts";
import { chooseTemplate, familyOf, hasTools, type TemplateChoice } from "./templates/registry.ts";
import { renderChat } from "./templates/render.ts";

/** How {@linkcode History.applyChatTemplate} renders. */
export interface ChatTemplateOptions extends TemplateChoice {
  /** End with the opening of an assistant's turn. Default `true`. */
  readonly addGenerationPrompt?: boolean | undefined;
  /**
   * End inside the last message, so that a model goes on with it: `true` for its content, or the name
   * of another field. Default `false`.
   */
  readonly continueFinalMessage?: boolean | string | undefined;
  /** Further template variables, such as `tools` or `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

/** Options of {@linkcode History.append} and {@linkcode History.extend}. */
export interface ChangeOptions {
  /** Change this history (default) or return a changed copy. */
  readonly inPlace?: boolean | undefined;
}

/**
 * Conversations: a single message (shape `[]`), one conversation (`[m]`), or a batch of them
 * (`[b, m]`, `[b, n, m]`). Conversations may have different lengths; the last size is then -1.
 *
 * @example
 * ```ts
 * import { History } from "@sglang-rl/sglang-rl";
 *
 * const chat = History.fromChats([{ role: "user", content: "Hello" }]);
 * chat.append({ role: "assistant", content: "Hi there!" });
 * const [text] = chat.applyChatTemplate({
 *   chatTemplateName: "chatml_format",
 *   addGenerationPrompt: false,
 * });
 * ```
 */
export class History {
  #batchShape: BatchShape | null;
  #chats: Message[][];

  private constructor(chats: readonly (readonly Message[])[], batchShape: BatchShape | null) {
    if (batchShape !== null) checkRowCount(chats.length, batchShape, "the list of conversations");
    this.#chats = chats.map((chat) => [...chat]);
    this.#batchShape = batchShape;
  }

  /** A single message, shape `[]`. */
  static message(message: Message): History {
    return new History([[asMessage(message)]], null);
  }

  /**
   * Conversations from messages: a list of messages gives shape `[m]`, a list of lists `[b, m]`, and
   * so on.
   */
  static fromChats(chats: Nested<Message>): History {
    if (isMessage(chats)) return History.message(chats);
    if (!Array.isArray(chats)) {
      throw new ValidationError(`Expected a list of messages, got ${describe(chats)}`);
    }
    const { rows, batchShape } = flattenRows(chats, isChat);
    return new History(rows, batchShape);
  }

  /** Conversations as a flat list of rows and the shape of the batch; default `[chats.length]`. */
  static fromRows(chats: readonly (readonly Message[])[], batchShape?: BatchShape): History {
    return new History(chats.map((chat) => chat.map(asMessage)), batchShape ?? [chats.length]);
  }

  /**
   * Parses rendered text; one text gives shape `[m]`, a list gives `[b, m]`. The template is taken
   * from `chatTemplateName`, else from the model's name, else chatml.
   *
   * @throws {ValidationError} There is no message in the text, or the template is unknown.
   */
  static fromText(text: string | readonly string[], options: TemplateChoice = {}): History {
    const name = options.chatTemplateName ?? familyOf(options.tokenizer?.name ?? "") ??
      "chatml_format";
    if (typeof text === "string") return new History([parseChat(text, name)], []);
    return History.fromRows(text.map((item) => parseChat(item, name)));
  }

  /** Number of dimensions: 0 for a message, 1 for a conversation, 2 for a batch. */
  get rank(): number {
    return this.#batchShape === null ? 0 : this.#batchShape.length + 1;
  }

  /** Shape with the number of messages last; -1 where conversations differ in length. */
  get shape(): number[] {
    if (this.#batchShape === null) return [];
    const lengths = new Set(this.#chats.map((chat) => chat.length));
    return [...this.#batchShape, lengths.size > 1 ? -1 : [...lengths][0] ?? 0];
  }

  /** Shape of the batch of conversations; `[]` for one conversation and for a message. */
  get batchShape(): BatchShape {
    return this.#batchShape ?? [];
  }

  /** The conversations as a flat list of rows. */
  get chats(): readonly (readonly Message[])[] {
    return this.#chats;
  }

  /**
   * The messages of one conversation.
   *
   * @throws {StateError} This is a batch.
   */
  get messages(): readonly Message[] {
    if (this.rank <= 1) return this.#chats[0]!;
    throw new StateError(`A history of shape (${this.shape.join(", ")}) has many conversations`);
  }

  /** Roles, nested as the batch is. */
  get roles(): Nested<string[]> {
    return nestRows(this.#chats.map((chat) => chat.map(({ role }) => role)), this.batchShape);
  }

  /** Contents, nested as the batch is. */
  get contents(): Nested<Message["content"][]> {
    return nestRows(this.#chats.map((chat) => chat.map(({ content }) => content)), this.batchShape);
  }

  /** For `JSON.stringify()`: the messages, nested as the batch is. */
  toJSON(): Nested<readonly Message[]> | Message {
    if (this.#batchShape === null) return this.#chats[0]![0]!;
    return nestRows<readonly Message[]>(this.#chats, this.#batchShape);
  }

  /** A copy. */
  clone(): History {
    return new History(this.#chats, this.#batchShape);
  }

  /** The same with a dimension of size 1 in front: a message becomes a conversation. */
  unsqueeze(): History {
    return new History(this.#chats, this.#batchShape === null ? [] : [1, ...this.#batchShape]);
  }

  /** The same conversations in a batch of another shape. */
  reshape(batchShape: BatchShape): History {
    return new History(this.#chats, batchShape);
  }

  /** The conversations at the given flat indices, shape `[indices.length, m]`. */
  select(indices: readonly number[]): History {
    return History.fromRows(indices.map((index) => this.#chats[index]!));
  }

  /** Conversations filled up with messages of role `<none>` to one length. */
  padMessages(): History {
    const length = Math.max(0, ...this.#chats.map((chat) => chat.length));
    const filler = { role: NO_ROLE, content: "" };
    const rows = this.#chats.map((chat) => [
      ...chat,
      ...Array.from({ length: length - chat.length }, () => filler),
    ]);
    return new History(rows, this.#batchShape);
  }

  /**
   * Adds one message to the end of each conversation. `item` has one dimension less: a message for a
   * conversation, a list of `b` messages for a batch of `b`.
   *
   * @returns This history, or a changed copy with `inPlace: false`.
   * @throws {ValidationError} The dimensions do not fit.
   */
  append(item: History | Nested<Message>, options: ChangeOptions = {}): History {
    const added = item instanceof History ? item : History.fromChats(item);
    if (this.rank === 0) {
      throw new ValidationError(
        "Cannot append to a single message. Call unsqueeze() first on self",
      );
    }
    if (added.rank !== this.rank - 1) {
      throw new ValidationError(
        "The new history to append must have one less dimension than self. " +
          `Got self.rank=${this.rank} and history.rank=${added.rank}; ` +
          "to add several messages use extend()",
      );
    }
    const messages = added.#chats.flat();
    if (messages.length !== this.#chats.length) {
      throw new ValidationError(
        `A batch of ${this.#chats.length} conversations needs as many messages, ` +
          `got ${messages.length}`,
      );
    }
    return this.#changed(
      this.#chats.map((chat, index) => [...chat, messages[index]!]),
      this.#batchShape,
      options,
    );
  }

  /**
   * Puts another history of the same rank behind this one. `dim: 0` (default) adds conversations to a
   * batch, or messages to one conversation; `dim: -1` adds messages to each conversation.
   *
   * @returns This history, or a changed copy with `inPlace: false`.
   * @throws {ValidationError} The dimensions do not fit.
   */
  extend(
    item: History | Nested<Message>,
    options: ChangeOptions & { dim?: number | undefined } = {},
  ): History {
    const added = item instanceof History ? item : History.fromChats(item);
    if (this.rank === 0 || added.rank !== this.rank) {
      throw new ValidationError(
        "The new history to extend must have as many dimensions as self. " +
          `Got self.rank=${this.rank} and history.rank=${added.rank}; unsqueeze() adds one`,
      );
    }
    const dim = options.dim ?? 0;
    const shape = this.#batchShape!;
    if (dim === -1 || dim === this.rank - 1) {
      checkRowCount(added.#chats.length, shape, "the new history to extend");
      const chats = this.#chats.map((chat, index) => [...chat, ...added.#chats[index]!]);
      return this.#changed(chats, shape, options);
    }
    if (dim !== 0) throw new ValidationError(`dim must be 0 or -1, got ${dim}`);
    const [first = 0, ...rest] = shape;
    const [more = 0, ...addedRest] = added.#batchShape!;
    checkRowCount(rowCount(addedRest), rest, "an item of the new history to extend");
    return this.#changed([...this.#chats, ...added.#chats], [first + more, ...rest], options);
  }

  /**
   * Renders each conversation; one text a row.
   *
   * @throws {ValidationError} No template is given or known, or the template refuses the messages.
   */
  applyChatTemplate(options: ChatTemplateOptions = {}): string[] {
    const { template } = chooseTemplate({ hasTools: hasTools(options.variables), ...options });
    return this.#chats.map((chat) =>
      renderChat(chat, {
        template,
        specialTokens: options.tokenizer?.specialTokens,
        addGenerationPrompt: options.addGenerationPrompt ?? !options.continueFinalMessage,
        continueFinalMessage: options.continueFinalMessage,
        variables: options.variables,
      })
    );
  }

  #changed(
    chats: Message[][],
    batchShape: BatchShape | null,
    { inPlace = true }: ChangeOptions,
  ): History {
    if (!inPlace) return new History(chats, batchShape);
    this.#chats = chats;
    this.#batchShape = batchShape;
    return this;
  }
}

function isChat(value: unknown): value is Message[] {
  // An empty list is a batch of no conversations, not a conversation of no messages.
  if (!Array.isArray(value) || !value.some(isMessage)) return false;
  value.forEach(asMessage);
  return true;
}
