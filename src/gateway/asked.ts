import type { SamplingInput } from "../client/types.ts";
import { type Message, textOf } from "../policy/message.ts";

/** A tool in OpenAI's shape, as chat templates take it. */
export type OfferedTool = Readonly<Record<string, unknown>> & {
  /** The function. */
  readonly function: {
    /** Its name. */
    readonly name: string;
    /** JSON schema of its arguments. */
    readonly parameters?: Readonly<Record<string, unknown>> | undefined;
  };
};

/** Which tools an answer may call. */
export type ToolChoice = "auto" | "none" | "required" | { readonly name: string };

/** One request of an agent, whichever API it speaks. */
export interface Asked {
  /** Name of the model, as the agent gave it. */
  readonly model: string;
  /** The conversation, or the bare text or ids of a completion. */
  readonly input:
    | { readonly kind: "chat"; readonly messages: readonly Message[] }
    | { readonly kind: "text"; readonly text: string }
    | { readonly kind: "ids"; readonly ids: Int32Array };
  /** Tools on offer. */
  readonly tools: readonly OfferedTool[];
  /** Which of them may be called. */
  readonly toolChoice: ToolChoice;
  /** Further variables of the chat template. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** How to sample. */
  readonly sampling: SamplingInput;
  /** The field that gives the answer its form by a grammar; `null` where none does. */
  readonly grammar: string | null;
  /** Answers to the one prompt. */
  readonly samples: number;
  /** How many likeliest tokens are shown at each place. */
  readonly topLogProbs: number;
  /** Whether the client says that it sends this again. */
  readonly isRetry: boolean;
}

/** A call of a tool as an agent is shown it. */
export interface ShownCall {
  /** What its answer refers to. */
  readonly id: string;
  /** Name of the tool. */
  readonly name: string;
  /** Its arguments as JSON. */
  readonly arguments: string;
}

/** An answer as an agent is shown it, whichever API it speaks. */
export interface ShownAnswer {
  /** What is said. */
  readonly content: string;
  /** What was thought; `null` where nothing was. */
  readonly reasoning: string | null;
  /** Tools that are called. */
  readonly calls: readonly ShownCall[];
}

/** Prompts from here on are long, in characters, ids or messages. */
const LONG_PROMPT = 4096, MESSAGE_SIZE = 64;

/** Whether the prompt of a request takes long to be made. */
export function isLong(input: Asked["input"]): boolean {
  if (input.kind === "ids") return input.ids.length > LONG_PROMPT;
  if (input.kind === "text") return input.text.length > LONG_PROMPT;
  let size = 0;
  for (const message of input.messages) {
    size += MESSAGE_SIZE + textOf(message).length;
    if (size > LONG_PROMPT) return true;
  }
  return false;
}
