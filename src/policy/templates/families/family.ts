import type { Message } from "../../message.ts";

/** A chat template that is built in, and how to read what it wrote. */
export interface TemplateFamily {
  /** Its name. */
  readonly name: string;
  /** Words in a model's name for which it is guessed. */
  readonly keywords: readonly string[];
  /** Jinja source, which renders as TorchRL's template of this name. */
  readonly template: string;
  /** Turns rendered text back into messages; takes one pass over the text. */
  parse(text: string): Message[];
}
