import { ValidationError } from "../../../errors.ts";
import { type Clock, systemClock } from "../../../internal/clock.ts";
import { withinTime } from "../../../internal/watchdog.ts";

/**
 * What a template may use while it renders. A template comes from a model folder, so it is a program
 * of somebody else: it may neither hang this process nor fill its memory.
 */
export interface TemplateLimits {
  /**
   * Steps: one for each expression and statement, one for each 16 characters or entries that an
   * operation reads or makes, and one for each where it takes them one by one. Default 10 million and
   * four for each character that the template is given: a conversation takes one or two for each.
   */
  readonly maxSteps: number;
  /**
   * Milliseconds of one rendering, which holds this process. Default 500; a conversation of 400
   * turns takes some 10. Time in which the system let this process wait for others hardly counts, but
   * after ten times as long the rendering is stopped whatever it waited for.
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
  maxSteps: 10_000_000,
  maxMs: 500,
  maxCharacters: 16 * 1024 * 1024,
  maxDepth: 100,
};

/** Steps and characters that each character of a conversation adds to the limits. */
const EACH_CHARACTER = 4;
/** A rendering is stopped after so many times its `maxMs` by the clock, whatever it waited for. */
const CLOCK_TIMES = 10;

/**
 * Checks limits and fills in the defaults.
 *
 * @param given Characters that the template is given.
 */
export function checkTemplateLimits(
  limits: Partial<TemplateLimits> = {},
  given = 0,
): TemplateLimits {
  const checked: Record<string, number> = { ...defaultTemplateLimits };
  checked.maxSteps! += EACH_CHARACTER * given;
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

/** Steps after which the time is looked at: a fraction of a millisecond. */
const STEPS_A_LOOK = 1024;
/**
 * What so many steps may take at most, in milliseconds. Longer means that the process did not run:
 * other programs had the processor, or the machine slept. That is not the template's fault.
 */
const longest = (steps: number) => 2 + steps / 2000;

/** Counts what one rendering uses. */
export class Budget {
  readonly #limits: TemplateLimits;
  readonly #clock: Pick<Clock, "now">;
  #steps = 0;
  #depth = 0;
  /** Steps and time of the last look at the time, and the milliseconds that counted until then. */
  #seenSteps = 0;
  /** Steps of the look before: an operation is counted before it runs, so its time comes after. */
  #olderSteps = 0;
  #seenAt: number;
  #ms = 0;
  /** Steps at which to look again. */
  #look: number;

  constructor(limits: TemplateLimits, clock: Pick<Clock, "now"> = systemClock) {
    this.#limits = limits;
    this.#clock = clock;
    this.#seenAt = clock.now();
    this.#look = Math.min(STEPS_A_LOOK, limits.maxSteps);
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
    if (++this.#steps > this.#look) this.#lookAround();
  }

  /** An operation over so many characters or entries. */
  work(size: number): void {
    this.#steps += 1 + size / 16;
    if (this.#steps > this.#look) this.#lookAround();
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

  #lookAround(): void {
    const { maxSteps, maxMs } = this.#limits;
    if (this.#steps > maxSteps) this.#over("maxSteps");
    const now = this.#clock.now();
    this.#ms += Math.min(now - this.#seenAt, longest(this.#steps - this.#olderSteps));
    if (this.#ms > maxMs) this.#over("maxMs");
    this.#seenAt = now;
    this.#olderSteps = this.#seenSteps;
    this.#seenSteps = this.#steps;
    this.#look = Math.min(this.#steps + STEPS_A_LOOK, maxSteps);
  }

  #over(limit: keyof TemplateLimits): never {
    throw new OverBudget(limit, this.#limits[limit]);
  }
}

let current: Budget | null = null;

/**
 * Runs a rendering, which never waits, with its budget at hand for {@linkcode budgetAtHand}. So what
 * prints, compares and walks values cannot be called without being counted; one operation that takes
 * for ever all the same is stopped by the clock.
 */
export function withBudget<T>(budget: Budget, run: () => T): T {
  const before = current;
  current = budget;
  const { maxMs } = budget.limits;
  try {
    return withinTime(CLOCK_TIMES * maxMs, run, () => new OverBudget("maxMs", maxMs));
  } finally {
    current = before;
  }
}

/** The budget of the rendering that runs; `null` outside of one. */
export function budgetAtHand(): Budget | null {
  return current;
}
