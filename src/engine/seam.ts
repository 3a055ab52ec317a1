/** Parameters whose work depends on what was sampled before, and what they do with it. */
const DEPENDENT: readonly { name: string; neutral: number | null; why: string }[] = [
  { name: "presence_penalty", neutral: 0, why: "counts the tokens that were sampled" },
  { name: "frequency_penalty", neutral: 0, why: "counts the tokens that were sampled" },
  { name: "repetition_penalty", neutral: 1, why: "counts the tokens that were sampled" },
  { name: "json_schema", neutral: null, why: "holds for the answer as a whole" },
  { name: "regex", neutral: null, why: "holds for the answer as a whole" },
  { name: "ebnf", neutral: null, why: "holds for the answer as a whole" },
  { name: "structural_tag", neutral: null, why: "holds for the answer as a whole" },
  { name: "stop_regex", neutral: null, why: "is looked for in what one request made" },
];

/**
 * Why a sample cannot go on from its ids on another server, which sees them as a prompt; `undefined`
 * when it can. A seed can: SGLang's random numbers are made of the seed and the place in the text.
 */
export function objectionToSeam(wire: Readonly<Record<string, unknown>>): string | undefined {
  const found = DEPENDENT.filter(({ name, neutral }) => {
    const value = wire[name];
    return value !== undefined && value !== null && value !== neutral;
  });
  if (found.length === 0) return undefined;
  return found.map(({ name, why }) => `${name} ${why}`).join(", and ");
}

/** Text of ids, special tokens included, as a server compares it with stop strings. */
export type FullText = (ids: Int32Array) => Promise<string>;

/**
 * Looks for stop strings that begin before a seam and end behind it. A server looks for them only in
 * what one request made, so nobody else would see one.
 */
export class SeamStops {
  readonly #stops: readonly string[];
  readonly #fullText: FullText;
  readonly #tail: readonly number[];
  /** Characters before the seam, one that is cut in two included. */
  readonly #before: number;
  readonly #longest: number;
  #after: number[] = [];

  private constructor(
    stops: readonly string[],
    fullText: FullText,
    { tail, before }: { tail: readonly number[]; before: number },
  ) {
    this.#stops = stops;
    this.#fullText = fullText;
    this.#tail = tail;
    this.#before = before;
    this.#longest = Math.max(...stops.map(({ length }) => length));
  }

  /** Looks at what lies before a seam; `undefined` when no stop string can have begun there. */
  static async at(
    ids: readonly number[],
    stops: readonly string[],
    fullText: FullText,
  ): Promise<SeamStops | undefined> {
    if (stops.length === 0) return undefined;
    // Every token but the parts of a character has at least one character.
    const most = 4 * Math.max(...stops.map(({ length }) => length));
    const tail = ids.slice(-most);
    const text = await fullText(Int32Array.from(tail));
    const whole = text.replace(/(?<!\ufffd)\ufffd+$/, "");
    const mayBegin = whole !== text || stops.some((stop) => beginsIn(whole, stop));
    if (!mayBegin) return undefined;
    return new SeamStops(stops, fullText, { tail, before: text.length });
  }

  /**
   * Takes the next ids in. `found` is a stop string across the seam, which ends after `count` of
   * them; `over` when none can come any more.
   */
  async push(
    ids: readonly number[],
  ): Promise<{ found?: { stop: string; count: number }; over: boolean }> {
    const text = await this.#text(ids.length, ids);
    const stop = this.#across(text);
    if (stop === undefined) {
      this.#after = [...this.#after, ...ids];
      return { over: text.length - this.#before >= this.#longest };
    }
    for (let count = 1; count < ids.length; count++) {
      if (this.#across(await this.#text(count, ids)) === stop) {
        return { found: { stop, count }, over: true };
      }
    }
    return { found: { stop, count: ids.length }, over: true };
  }

  #text(count: number, ids: readonly number[]): Promise<string> {
    return this.#fullText(Int32Array.from([...this.#tail, ...this.#after, ...ids.slice(0, count)]));
  }

  /** The stop string that begins before the seam and ends behind it. */
  #across(text: string): string | undefined {
    return this.#stops.find((stop) => {
      const first = Math.max(0, this.#before - stop.length + 1);
      const at = text.indexOf(stop, first);
      return at >= 0 && (at < this.#before || this.#before === 0);
    });
  }
}

/** Whether a text ends with the beginning of a stop string. */
function beginsIn(text: string, stop: string): boolean {
  for (let length = 1; length < stop.length; length++) {
    if (text.endsWith(stop.slice(0, length))) return true;
  }
  return false;
}

/** The stop strings of a request. */
export function stopsOf(wire: Readonly<Record<string, unknown>>): readonly string[] {
  const { stop } = wire as { stop?: string | readonly string[] | null };
  return stop === undefined || stop === null ? [] : [stop].flat().filter((one) => one !== "");
}
