import { ValidationError } from "../errors.ts";

/** One prompt: text or token ids. */
export type Prompt = string | ArrayLike<number>;

/** Prompts by field; exactly one of the two is given. */
export type PromptFields =
  | {
    /** One text or several. */
    readonly text: string | readonly string[];
    readonly inputIds?: undefined;
  }
  | {
    /** One list of ids or several. */
    readonly inputIds: ArrayLike<number> | readonly ArrayLike<number>[];
    readonly text?: undefined;
  };

/** One prompt: a text, or a text or ids by field. */
export type OnePrompt =
  | string
  | {
    /** The text. */
    readonly text: string;
    readonly inputIds?: undefined;
  }
  | {
    /** The ids `(P)`. */
    readonly inputIds: ArrayLike<number>;
    readonly text?: undefined;
  };

/** Several prompts: texts, or texts or ids by field. */
export type ManyPrompts =
  | readonly string[]
  | {
    /** The texts. */
    readonly text: readonly string[];
    readonly inputIds?: undefined;
  }
  | {
    /** The ids of each, `(P)`. */
    readonly inputIds: readonly ArrayLike<number>[];
    readonly text?: undefined;
  };

/** Prompts in the form that an engine takes them in. */
export interface PromptList {
  /** The prompts. */
  readonly list: readonly Prompt[];
  /** Whether a list of samples is wanted; where not, there is one prompt, and one sample of it. */
  readonly isList: boolean;
}

/**
 * The prompts of a call as one list, checked.
 *
 * @throws {ValidationError} They are no prompts, or texts and ids at once.
 */
export function promptList(prompts: string | readonly string[] | PromptFields): PromptList {
  if (typeof prompts === "string") return { list: [prompts], isList: false };
  if (Array.isArray(prompts)) return { list: prompts.map(checkText), isList: true };
  if (typeof prompts !== "object" || prompts === null) {
    throw new ValidationError("Must provide either text or inputIds");
  }
  const { text, inputIds } = fieldsOf(prompts as PromptFields);
  if (text !== undefined && inputIds !== undefined) {
    throw new ValidationError("Cannot provide both text and inputIds");
  }
  if (text !== undefined) return promptList(text as string | readonly string[]);
  if (inputIds === undefined) throw new ValidationError("Must provide either text or inputIds");
  return idLists(inputIds);
}

function fieldsOf(prompts: PromptFields): PromptFields {
  for (const name of Object.keys(prompts)) {
    if (name === "text" || name === "inputIds") continue;
    throw new ValidationError(`Unknown field "${name}" of a prompt: give text or inputIds`);
  }
  return prompts;
}

function idLists(
  inputIds: NonNullable<PromptFields["inputIds"]>,
): PromptList {
  const isOfLists = Array.isArray(inputIds) &&
    (inputIds.length === 0 || typeof inputIds[0] !== "number");
  if (!isOfLists) return { list: [inputIds as ArrayLike<number>], isList: false };
  return { list: inputIds as ArrayLike<number>[], isList: true };
}

function checkText(prompt: unknown, index: number): string {
  if (typeof prompt === "string") return prompt;
  throw new ValidationError(
    `prompts[${index}] must be a text, got ${typeof prompt}; give ids as { inputIds }`,
  );
}
