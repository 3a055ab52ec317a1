import { ValidationError } from "../../../errors.ts";
import { withinTime } from "../../../internal/watchdog.ts";

/**
 * What a template may use while it renders. A template comes from a model folder, so it is a program
 * of somebody else: it may neither hang this process nor fill its memory.
 */
export interface TemplateLimits {
  /**
   * Steps: one for each expression and statement, one for each 16 characters or entries that an
   * operation reads or makes, and one for each where it takes them one by one. Default 2 million, four
   * for each character that the template is given, and four for each pair of messages, of these at most
   * 8 million: a conversation takes one or two for each character, and some templates look at all
   * messages for each of them (Gemma 4's: 6.9 million for 1,600 messages). A million takes 0.05 to 0.25 s
   * of a processor, so this is what ends a template that loops for ever, after the same work on any
   * machine.
   */
  readonly maxSteps: number;
  /**
   * Milliseconds by the clock of one rendering, which holds this process: at that moment it is stopped,
   * whatever it does and whatever it waited for. Default 5000 and 0.02 for each character that the
   * template is given, so that a machine on which others have the processors refuses no honest
   * template: a conversation of 400 turns takes some 10 where nothing else runs.
   */
  readonly maxMs: number;
  /**
   * Characters of the output, and of any text on the way to it. Default 16 Mi and four for each that
   * the template is given.
   */
  readonly maxCharacters: number;
  /** Calls of macros, and loops over themselves, inside each other. Default 100. */
  readonly maxDepth: number;
}

/** The limits where nothing else is said, for a template that is given nothing. */
export const defaultTemplateLimits: TemplateLimits = {
  maxSteps: 2_000_000,
  maxMs: 5000,
  maxCharacters: 16 * 1024 * 1024,
  maxDepth: 100,
};

/** Steps and characters that each character of a conversation adds to the limits. */
const EACH_CHARACTER = 4;
/** Steps that each pair of messages adds, and how many of these at most. */
const EACH_PAIR = 4, ALL_PAIRS = 8_000_000;
/** Milliseconds that each adds. */
const CHARACTER_MS = 0.02;

/**
 * Checks limits and fills in the defaults.
 *
 * @param given Characters that the template is given.
 * @param messages Messages that it is given.
 */
export function checkTemplateLimits(
  limits: Partial<TemplateLimits> = {},
  given = 0,
  messages = 0,
): TemplateLimits {
  const checked: Record<string, number> = { ...defaultTemplateLimits };
  checked.maxSteps! += EACH_CHARACTER * given + Math.min(EACH_PAIR * messages ** 2, ALL_PAIRS);
  checked.maxMs! += Math.ceil(CHARACTER_MS * given);
  checked.maxCharacters! += EACH_CHARACTER * given;
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(defaultTemplateLimits, name)) {
      const names = Object.keys(defaultTemplateLimits).join(", ");
      throw new ValidationError(`templateLimits.${name} is no limit: the limits are ${names}`);
    }
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new ValidationError(
        `templateLimits.${name} must be an integer of at least 1, got ${value}`,
      );
    }
    checked[name] = value;
  }
  return checked as unknown as TemplateLimits;
}

/** A template used more than its {@linkcode TemplateLimits}; `limit` says which. */
export class OverBudget extends Error {
  /** Makes the error. */
  constructor(readonly limit: keyof TemplateLimits, readonly allowed: number) {
    super(`${limit} ${allowed}`);
  }
}

/** Counts what one rendering uses. */
export class Budget {
  readonly #limits: TemplateLimits;
  readonly #maxSteps: number;
  #steps = 0;
  #depth = 0;

  constructor(limits: TemplateLimits) {
    this.#limits = limits;
    this.#maxSteps = limits.maxSteps;
  }

  /** The limits that it was made with. */
  get limits(): TemplateLimits {
    return this.#limits;
  }

  /** Steps so far. */
  get steps(): number {
    return this.#steps;
  }

  /** One expression or statement. */
  step(): void {
    if (++this.#steps > this.#maxSteps) this.#over("maxSteps");
  }

  /** An operation over so many characters or entries. */
  work(size: number): void {
    this.#steps += 1 + size / 16;
    if (this.#steps > this.#maxSteps) this.#over("maxSteps");
  }

  /** A text or list of a size that is not made yet. */
  make(size: number): void {
    if (!(size <= this.#limits.maxCharacters)) this.#over("maxCharacters");
    this.work(size);
  }

  /** An operation that takes so many characters or entries one by one. */
  each(size: number): void {
    this.work(size * 16);
  }

  /** A search, which at worst compares all of what is sought at every place. */
  search(text: string, sought: string): void {
    const places = Math.max(0, text.length - sought.length) + 1;
    this.work(text.length + places * sought.length / 4);
  }

  /** Only checks a size that grows while something is made; its parts are counted elsewhere. */
  fits(size: number): void {
    if (size > this.#limits.maxCharacters) this.#over("maxCharacters");
  }

  /** Runs something one level deeper. */
  deeper<T>(run: () => T): T {
    if (++this.#depth > this.#limits.maxDepth) this.#over("maxDepth");
    try {
      return run();
    } finally {
      this.#depth--;
    }
  }

  #over(limit: keyof TemplateLimits): never {
    throw new OverBudget(limit, this.#limits[limit]);
  }
}

let current: Budget | null = null;

/**
 * Runs a rendering, which never waits, with its budget at hand for {@linkcode budgetAtHand}. So what
 * prints, compares and walks values cannot be called without being counted; what takes too long all the
 * same is stopped by the clock.
 *
 * @param leftMs What is left of the time, where the rendering goes in steps.
 */
export function withBudget<T>(
  budget: Budget,
  run: () => T,
  leftMs: number = budget.limits.maxMs,
): T {
  const before = current;
  current = budget;
  const { maxMs } = budget.limits;
  try {
    return withinTime(leftMs, run, () => new OverBudget("maxMs", maxMs));
  } finally {
    current = before;
  }
}

/** The budget of the rendering that runs; `null` outside of one. */
export function budgetAtHand(): Budget | null {
  return current;
}
