/** A part of a `tokenizer.json` that is not known here: another tokenizer may know it. */
export class NotKnown extends Error {
  override readonly name = "NotKnown";
}
