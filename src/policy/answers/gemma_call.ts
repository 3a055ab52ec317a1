/** Calls of Gemma 4 and FunctionGemma: `call:name{key:<|"|>a text<|"|>,other:[1,true]}`. */
import { fault, type Found, taggedCall } from "./answer.ts";
import { tryExact } from "../exact_numbers.ts";

const MAX_DEPTH = 64;

/** Gemma 4's mark around texts: it stands between the marks of a call, and nothing in it is one. */
export const gemmaQuote = '<|"|>';

/** One call, with the mark around its texts. */
export function gemmaCall(body: string, quote: string): Found {
  const head = /^\s*call:\s*([\w.-]+)\s*(?=\{)/.exec(body);
  if (head === null) return fault(body, "a call must be call:name{…}");
  const reader = new GemmaReader(body, head[0].length, quote);
  const given = reader.value(0);
  if (!reader.isWhole || body.slice(reader.at).trim() !== "") {
    return fault(body, "the arguments cannot be read");
  }
  return taggedCall(head[1]!, given as Record<string, unknown>, body);
}

class GemmaReader {
  at: number;
  /** Whether all was as it must be. */
  isWhole = true;
  readonly #text: string;
  readonly #quote: string;

  constructor(text: string, at: number, quote: string) {
    this.#text = text;
    this.#quote = quote;
    this.at = at;
  }

  value(depth: number): unknown {
    if (depth > MAX_DEPTH) return this.#fails();
    this.#space();
    if (this.#takes(this.#quote)) return this.#until(this.#quote);
    if (this.#takes("{")) {
      const entries = this.#items("}", () => {
        this.#space();
        const key = this.#takes(this.#quote)
          ? this.#until(this.#quote)
          : this.#word(/[^:{}[\],]+/y).trim();
        this.#space();
        if (!this.#takes(":")) this.#fails();
        return [key, this.value(depth + 1)] as const;
      });
      return Object.fromEntries(entries);
    }
    if (this.#takes("[")) return this.#items("]", () => this.value(depth + 1));
    const word = this.#word(/[^,{}[\]]+/y).trim();
    const read = tryExact(word === "None" ? "null" : word);
    return read === null ? word : read.value;
  }

  #items<Item>(close: string, item: () => Item): Item[] {
    const list: Item[] = [];
    for (this.#space(); this.isWhole && !this.#takes(close); this.#space()) {
      if (list.length > 0 && !this.#takes(",")) return this.#fails() ?? list;
      list.push(item());
    }
    return list;
  }

  #word(sticky: RegExp): string {
    sticky.lastIndex = this.at;
    const found = sticky.exec(this.#text)?.[0] ?? "";
    if (found.trim() === "") this.#fails();
    this.at += found.length;
    return found;
  }

  #until(mark: string): string {
    const end = this.#text.indexOf(mark, this.at);
    const text = this.#text.slice(this.at, end < 0 ? this.#text.length : end);
    if (end < 0) this.#fails();
    this.at += text.length + mark.length;
    return text;
  }

  #space(): void {
    while (/\s/.test(this.#text[this.at] ?? "")) this.at++;
  }

  #takes(mark: string): boolean {
    if (!this.#text.startsWith(mark, this.at)) return false;
    this.at += mark.length;
    return true;
  }

  #fails(): undefined {
    this.isWhole = false;
    return undefined;
  }
}
