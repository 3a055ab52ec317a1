import { StateError, ValidationError } from "../errors.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import { type BatchShape, describe } from "./batch_shape.ts";
import { History } from "./history.ts";

/** Parts of a {@linkcode ChatHistory}. */
export interface ChatHistoryParts {
  /** What was said before the response. */
  readonly prompt?: History | null | undefined;
  /** The messages of the response. */
  readonly response?: History | null | undefined;
  /** Prompt and response. */
  readonly full?: History | null | undefined;
}

/** The conversations of a batch before, in and after a response. */
export class ChatHistory {
  /** Shape of the batch; `[]` for one conversation. */
  readonly batchShape: BatchShape;
  /** Conversations before the response, or `null`. */
  readonly prompt: History | null;
  /** Messages of the response, one for each conversation, or `null`. */
  readonly response: History | null;
  /** Prompt and response, or `null`. */
  readonly full: History | null;

  /**
   * Makes a chat history. Given a batch shape, a history of that very rank is a batch of single
   * messages: each becomes a conversation, and the logger is warned.
   *
   * @throws {ValidationError} A part is no `History`, or the parts have different batch shapes.
   */
  constructor(
    parts: ChatHistoryParts,
    options: { batchShape?: BatchShape | undefined; logger?: Logger | undefined } = {},
  ) {
    const { logger = silentLogger } = options;
    const convert = (part: History | null | undefined) =>
      part ? asConversations(part, options.batchShape, logger) : null;
    this.prompt = convert(parts.prompt);
    this.response = convert(parts.response);
    this.full = convert(parts.full);
    const first = this.prompt ?? this.full ?? this.response;
    if (first === null) {
      throw new ValidationError("A chat history needs a prompt or a full history");
    }
    this.batchShape = options.batchShape ?? first.batchShape;
    for (const part of [this.prompt, this.response, this.full]) {
      if (part === null || part.batchShape.join() === this.batchShape.join()) continue;
      throw new ValidationError(
        `Parts of a chat history must have one batch shape: expected ` +
          `(${this.batchShape.join(", ")}), got (${part.batchShape.join(", ")})`,
      );
    }
  }

  /**
   * A part by name.
   *
   * @throws {StateError} The part is absent.
   */
  get(key: "prompt" | "response" | "full"): History {
    const part = this[key];
    if (part !== null) return part;
    throw new StateError(`ChatHistory has no "${key}"`);
  }
}

function asConversations(
  part: unknown,
  batchShape: BatchShape | undefined,
  logger: Logger,
): History {
  if (!(part instanceof History)) {
    throw new ValidationError(`Expected History object, got ${describe(part)}`);
  }
  const rank = batchShape?.length ?? 0;
  if (part.rank !== rank) return part;
  logger.warn(
    `A history of shape (${part.shape.join(", ")}) holds single messages; ` +
      "each is taken as a conversation of one message",
  );
  if (rank === 0) return part.unsqueeze();
  return History.fromRows(part.chats.flat().map((message) => [message]), batchShape);
}
