/** Bytes of a prompt that are looked at: what is further back was shared long before. */
const MOST_UNITS = 65_536;
/** Places at which prompts are compared: the first, and how much further each next one is. */
const FIRST_UNITS = 16;
const GROWTH = 1.2;
/** Marks that are kept in each half of the memory: about 40 bytes each. */
const MOST_MARKS = 200_000;

/** Where prompts are compared, in ids or characters. */
const places: readonly number[] = (() => {
  const found = [FIRST_UNITS];
  while (found.at(-1)! < MOST_UNITS) found.push(Math.ceil(found.at(-1)! * GROWTH));
  return found;
})();

/** What was sent, as far as it says which cache may hold its beginning. */
export interface Affine {
  /** Text or ids of the prompt. */
  readonly prompt: string | ArrayLike<number>;
  /** The session, which goes before the prompt. */
  readonly session?: string | undefined;
  /** What keeps caches apart: an adapter, a salt. */
  readonly scope?: string | undefined;
}

/** Who had a beginning last, and whether the prompt ended there. */
interface Mark<Server> {
  readonly server: Server;
  readonly isEnd: boolean;
}

/** The beginnings of a prompt, each as a number; the last is the longest. */
export type Beginnings = readonly number[];

/** The beginnings of what is sent. Costs a look at each id or character, up to 65,536. */
export function beginningsOf({ prompt, session, scope = "" }: Affine): Beginnings {
  let [low, high] = mixText(0x811c9dc5, 0x9747b28c, scope);
  if (session !== undefined) {
    [low, high] = mixText(low ^ 0x5bd1e995, high, session);
    return [numberOf(low, high)];
  }
  const isText = typeof prompt === "string";
  const found: number[] = [];
  let place = 0;
  const length = Math.min(prompt.length, MOST_UNITS);
  for (let i = 0; i < length; i++) {
    const unit = isText ? prompt.charCodeAt(i) : prompt[i]!;
    low = Math.imul(low ^ unit, 0x01000193);
    high = Math.imul(high + unit, 0x85ebca6b) ^ (high >>> 15);
    if (i + 1 !== places[place]) continue;
    place++;
    found.push(numberOf(low, high));
  }
  // A short prompt is its own beginning.
  if (found.length === 0) found.push(numberOf(low, ~high));
  return found;
}

/**
 * Remembers which server had which beginning of a prompt last, so that a dialog goes where its
 * beginning is cached. Memory is bounded: what was not used for long is forgotten.
 */
export class PrefixAffinity<Server> {
  #young = new Map<number, Mark<Server>>();
  #old = new Map<number, Mark<Server>>();

  /**
   * The server that most likely has the beginning of a prompt; `undefined` when none has enough of
   * it to matter: half of it, or all that it was asked before.
   */
  find(beginnings: Beginnings): Server | undefined {
    for (let i = beginnings.length - 1; i >= 0; i--) {
      const mark = this.#young.get(beginnings[i]!) ?? this.#old.get(beginnings[i]!);
      if (mark === undefined) continue;
      const share = i === beginnings.length - 1 ? 1 : places[i]! / places[beginnings.length - 1]!;
      // Where an earlier prompt ended the rest is new for everybody: the dialog went on.
      return mark.isEnd || share >= 0.5 ? mark.server : undefined;
    }
    return undefined;
  }

  /** Remembers where a prompt went. */
  note(beginnings: Beginnings, server: Server): void {
    for (const [i, beginning] of beginnings.entries()) {
      const before = this.#young.get(beginning) ?? this.#old.get(beginning);
      const isEnd = i === beginnings.length - 1 || (before?.isEnd ?? false);
      if (before?.server === server && before.isEnd === isEnd && this.#young.has(beginning)) {
        continue;
      }
      this.#young.set(beginning, { server, isEnd });
    }
    if (this.#young.size <= MOST_MARKS) return;
    this.#old = this.#young;
    this.#young = new Map();
  }
}

function mixText(low: number, high: number, text: string): [number, number] {
  for (let i = 0; i < text.length; i++) {
    low = Math.imul(low ^ text.charCodeAt(i), 0x01000193);
    high = Math.imul(high + text.charCodeAt(i), 0x85ebca6b) ^ (high >>> 15);
  }
  return [low, high];
}

/** Both halves as one number that a double holds exactly. */
function numberOf(low: number, high: number): number {
  return (low >>> 0) * 2 ** 21 + (high >>> 11);
}
