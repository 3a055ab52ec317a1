import { ValidationError } from "../../errors.ts";
import type { Message } from "../message.ts";
import { parserOf, unknownTemplate } from "./registry.ts";

/**
 * Turns rendered text back into messages. Contents lose surrounding white space. A message without
 * its end marker, which only the last can be, has `isComplete: false`; templates without end markers
 * give complete messages.
 *
 * @throws {ValidationError} The text has no message, or the template is unknown or has no parser.
 */
export function parseChat(text: string, templateName: string): Message[] {
  const parse = parserOf(templateName);
  if (parse === undefined) throw unknownTemplate(templateName);
  const messages = parse(text);
  if (messages.length > 0) return messages;
  throw new ValidationError(
    `Could not find a message in ${
      JSON.stringify(text.slice(0, 120))
    }. Often special tokens were ` +
      "left out of the text: generate with skipSpecialTokens: false and noStopTrim: true",
  );
}
