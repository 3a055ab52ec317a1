import { ValidationError } from "../../errors.ts";
import { type BatchShape, rowCount } from "../batch_shape.ts";
import { ChatHistory } from "../chat_history.ts";
import { History } from "../history.ts";
import { LogProbs } from "../log_probs.ts";
import { Masks } from "../masks.ts";
import type { Message } from "../message.ts";
import { glueTextAlone } from "../next_turn.ts";
import type { RowArray } from "../padding.ts";
import { renderChat } from "../templates/render.ts";
import { Tokens } from "../tokens.ts";
import type { PolicyInput } from "./inputs.ts";
import { nextIds } from "./next_ids.ts";
import { type PromptContext, templateOf } from "./prompt_context.ts";

/** Messages that follow: for the only conversation, or a list for each row. */
export type FollowingMessages = readonly Message[] | readonly (readonly Message[])[];

/**
 * The input of the next turn: conversations with the new messages, ids of the turns so far with
 * those of what lies between, and the masks and log-probabilities of the turns so far.
 */
export async function nextInput(
  output: Readonly<Record<string, unknown>>,
  messages: FollowingMessages,
  context: PromptContext,
): Promise<PolicyInput> {
  const { historyKey, tokensKey, masksKey, logProbsKey } = context.settings;
  const history = output[historyKey];
  if (!(history instanceof ChatHistory) || history.full === null) {
    throw new ValidationError("nextTurn() needs the output of a wrapper in history mode");
  }
  const { chats, batchShape } = history.full;
  const added = listPerRow(messages, batchShape);
  const { full, assistantMask, logProbs } = raggedRows(
    output[tokensKey] as Tokens,
    output[masksKey] as Masks,
    output[logProbsKey] as LogProbs | undefined,
  );
  const prompt = await Promise.all(
    chats.map((chat, row) => nextPrompt({ chat, full: full[row]! }, added[row]!, context)),
  );
  const lengthened = <Row extends RowArray>(rows: readonly Row[], empty: Row) =>
    rows.map((values, row) => lengthenedTo(prompt[row]!.length, values, empty));
  return {
    [historyKey]: new ChatHistory({
      prompt: history.full.extend(History.fromRows(added, batchShape), { dim: -1, inPlace: false }),
    }),
    [tokensKey]: new Tokens({ prompt }, batchShape),
    [masksKey]: new Masks(
      { allAssistantMask: lengthened(assistantMask, new Uint8Array()) },
      batchShape,
    ),
    ...(logProbs && {
      [logProbsKey]: new LogProbs(
        { prompt: lengthened(logProbs, new Float32Array()) },
        batchShape,
      ),
    }),
    keepTokens: true,
  };
}

/** The ids of the next turn; a template that rewrites earlier turns is treated by `onTokenDrift`. */
async function nextPrompt(
  sampled: { chat: readonly Message[]; full: Int32Array },
  messages: readonly Message[],
  context: PromptContext,
): Promise<Int32Array> {
  const { tokenizer, signal, settings } = context;
  try {
    return await nextIds(sampled, messages, context);
  } catch (error) {
    if (settings.onTokenDrift === "refuse") throw error;
    if (settings.onTokenDrift === "report") {
      return await nextIds(sampled, messages, context, glueTextAlone);
    }
    const options = { ...templateOf(settings, tokenizer), addGenerationPrompt: true };
    const text = renderChat([...sampled.chat, ...messages], options);
    return await tokenizer.encode(text, { signal });
  }
}

function raggedRows(tokens: Tokens, masks: Masks, logProbs: LogProbs | undefined): {
  full: readonly Int32Array[];
  assistantMask: readonly Uint8Array[];
  logProbs: readonly Float32Array[] | null;
} {
  const { padding } = tokens;
  const ragged = <Row extends RowArray>(rows: readonly Row[]) =>
    padding === null ? rows : padding.unpadFull(rows);
  return {
    full: ragged(tokens.get("full")),
    assistantMask: ragged(masks.get("allAssistantMask")),
    logProbs: logProbs?.full ? ragged(logProbs.full) : null,
  };
}

/** Values of the turns so far, then zeros; repaired ids may even be fewer. */
function lengthenedTo<Row extends RowArray>(length: number, values: Row, empty: Row): Row {
  const out = new (empty.constructor as new (length: number) => Row)(length);
  out.set(values.subarray(0, length));
  return out;
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
