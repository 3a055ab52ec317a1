import { ValidationError } from "../../errors.ts";
import { type BatchShape, rowCount } from "../batch_shape.ts";
import { ChatHistory } from "../chat_history.ts";
import { History } from "../history.ts";
import { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import type { Message } from "../message.ts";
import { Tokens } from "../tokens.ts";
import { type ChatContext, chatPrompt } from "./chat_prompts.ts";
import { readGiven } from "./given.ts";
import type { PolicyInput } from "./inputs.ts";
import type { WrapperSettings } from "./options.ts";

/** Messages that follow: for the only conversation, or a list for each row. */
export type FollowingMessages = readonly Message[] | readonly (readonly Message[])[];

/**
 * The input of the next turn: conversations with the new messages, and the ids to send for each. A
 * prompt begins with the ids of the turns so far, and then masks and log-probabilities of those turns
 * come along; or it is a branch with the ids of the template's text.
 */
export async function nextInput(
  output: Readonly<Record<string, unknown>>,
  messages: FollowingMessages,
  context: ChatContext & { readonly settings: WrapperSettings },
): Promise<PolicyInput> {
  const { historyKey, tokensKey, masksKey, logProbsKey } = context.settings;
  const history = output[historyKey];
  if (!(history instanceof ChatHistory) || history.full === null) {
    throw new ValidationError("nextTurn() needs the output of a wrapper in history mode");
  }
  const { chats, batchShape } = history.full;
  const added = listPerRow(messages, batchShape);
  const given = readGiven(output, chats.length, { ...context.settings, preferTokens: true });
  // Ids that belong to no turn of ours are not kept against the text.
  const settings = { ...context.settings, onTokenDrift: "repair" } as const;
  const rows = await Promise.all(chats.map((chat, row) => {
    const before = { ...given[row]!, prompt: null, isKept: false };
    return chatPrompt([...chat, ...added[row]!], before, { ...context, settings });
  }));
  const logProbs = rows.map((row) => row.logProbs);
  return {
    [historyKey]: new ChatHistory({
      prompt: history.full.extend(History.fromRows(added, batchShape), { dim: -1, inPlace: false }),
    }),
    [tokensKey]: new Tokens({ prompt: rows.map(({ ids }) => ids!) }, batchShape),
    [masksKey]: new Masks({
      allAssistantMask: rows.map(({ ids, assistantMask }) =>
        assistantMask ?? new Uint8Array(ids!.length)
      ),
    }, batchShape),
    ...(logProbs.every((row) => row !== null) && {
      [logProbsKey]: new LogProbs({ prompt: logProbs }, batchShape),
    }),
    prompts: rows.map(({ turn }) => turn!),
  };
}

function listPerRow(
  messages: FollowingMessages,
  batchShape: BatchShape,
): readonly (readonly Message[])[] {
  const count = rowCount(batchShape);
  const isOne = !Array.isArray(messages[0]);
  const lists = (isOne ? [messages] : messages) as readonly (readonly Message[])[];
  if (lists.length === count) return lists;
  throw new ValidationError(
    `The output has ${count} rows, but there are messages for ${lists.length}: give one list for ` +
      "each row",
  );
}
