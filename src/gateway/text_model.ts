import type { Message } from "../policy/message.ts";
import { textOf } from "../policy/message.ts";
import type { Tokenizer } from "../policy/tokenizer.ts";
import type { ChatModel } from "../rollout/chat_model.ts";
import { PiecewiseTokenizer } from "../rollout/piecewise_tokenizer.ts";

/** Role of the one message that a bare text is. */
export const TEXT_ROLE = "text";

/**
 * Bare texts as conversations of one message, without a template: what `/v1/completions` is made of.
 * Ids are those that a server makes of the text, special tokens included.
 */
export function textModel(inner: Tokenizer): ChatModel {
  const tokenizer = new PiecewiseTokenizer(inner);
  const render = (messages: readonly Message[]) => messages.map(textOf).join("");
  const encode: Tokenizer["encode"] = (text, options) =>
    tokenizer.encode(text, { ...options, addSpecialTokens: true });
  return {
    tokenizer: {
      name: tokenizer.name,
      chatTemplate: null,
      specialTokens: tokenizer.specialTokens,
      wholeTokens: tokenizer.wholeTokens,
      idOf: (token) => tokenizer.idOf(token),
      decode: (ids, options) => tokenizer.decode(ids, options),
      encode,
    },
    render,
    async begin(messages, options) {
      const text = render(messages);
      return { text, ids: await encode(text, options), assistantMask: null };
    },
    read: (sample) => ({
      role: TEXT_ROLE,
      content: sample.text ?? "",
      isComplete: sample.finishReason.type === "stop",
    }),
  };
}
