import process from "node:process";
import { Script } from "node:vm";
import { LimitError } from "../errors.ts";
import { systemClock } from "./clock.ts";
import { withReplaced } from "./replaced.ts";
import { slice, type Steps } from "./work_turns.ts";

/**
 * Code of this process that is stopped when it takes too long: a loop, or a regular expression of
 * somebody else's file that goes back and forth for ever. Nothing else can stop what does not wait.
 */
const key = Symbol.for("sglang-rl.watched");
const watched = globalThis as unknown as Record<symbol, (() => unknown) | undefined>;
/** What a timeout of `node:vm` may be. */
const LONGEST_MS = 2 ** 31 - 1;
const script = new Script(`globalThis[Symbol.for("sglang-rl.watched")]()`);

/**
 * Runs something that does not wait, and stops it after some milliseconds. Costs some 10 µs.
 *
 * What is stopped leaves everything as it stands at that moment, also without its `finally`: run only
 * what changes nothing that is used afterwards.
 *
 * @param tooLong Makes the error for something that was stopped.
 */
export function withinTime<T>(ms: number, run: () => T, tooLong: () => Error): T {
  watched[key] = run;
  try {
    return script.runInThisContext({
      timeout: Math.min(Math.max(1, Math.ceil(ms)), LONGEST_MS),
    }) as T;
  } catch (error) {
    const isStopped = (error as { code?: unknown } | null)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT";
    throw isStopped ? tooLong() : error;
  } finally {
    watched[key] = undefined;
  }
}

/** What rules of somebody else's file may do to one text. */
export interface TextLimits {
  readonly textMs?: number | undefined;
  readonly textCharacters?: number | undefined;
}

/** What any text may take, and each of its characters, in milliseconds: the slowest honest readers,
 * on a busy machine, take a tenth. */
const TEXT_MS = 1000, CHARACTER_MS = 0.02;

/** How many times its time by the clock something may take where others have the processor. */
const MOST_TIMES = 64;

/** Processor time of this process, in milliseconds. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * Runs something over a text by the rules of somebody else's file. The limit is one of work: what was
 * stopped while others had the processor is run again, with twice the time.
 *
 * @param who Whose rules they are, for the error.
 * @param limits What the text may take in time, by default a second and 0.02 ms for each character,
 *   and how many characters the rules may make of it.
 * @throws {LimitError} It took longer, or made more.
 */
export function textWithinTime<T>(
  who: string,
  characters: number,
  run: () => T,
  limits: TextLimits = {},
): T {
  const max = limits.textMs ?? Math.ceil(TEXT_MS + CHARACTER_MS * characters);
  return withReplaced(
    limits.textCharacters,
    () => withinWork(max, run, () => tookLonger(who, characters, max)),
  );
}

/**
 * {@linkcode textWithinTime} for work in steps, `most` characters of it at a time, with a `turn` before
 * each time. What was stopped while others had the processor begins anew, with twice the time.
 *
 * @param make Makes the steps; what they change is used by none but them.
 * @throws {LimitError} All of it took longer, or made more.
 */
export async function stepsWithinTime<T>(
  who: string,
  characters: number,
  make: () => Steps<T>,
  { most, turn, ...limits }: TextLimits & {
    readonly most: number;
    readonly turn: (work: number) => Promise<void>;
  },
): Promise<T> {
  const max = limits.textMs ?? Math.ceil(TEXT_MS + CHARACTER_MS * characters);
  const stopped = new Error("stopped");
  for (let times = 1;; times *= 2) {
    const steps = make();
    let leftMs = max * times;
    let worked = 0;
    try {
      for (;;) {
        await turn(most);
        const [began, before] = [systemClock.now(), processorMs()];
        try {
          const step = withReplaced(
            limits.textCharacters,
            () => withinTime(leftMs, () => slice(steps, most), () => stopped),
          );
          if (step.done === true) return step.value;
        } finally {
          worked += processorMs() - before;
          leftMs -= systemClock.now() - began;
        }
        if (leftMs <= 0) throw stopped;
      }
    } catch (error) {
      if (error !== stopped) throw error;
      if (times < MOST_TIMES && worked < max / 2) continue;
      throw tookLonger(who, characters, max);
    }
  }
}

function tookLonger(who: string, characters: number, max: number): LimitError {
  return new LimitError(
    `${who} took longer than limits.textMs, ${max} ms, for a text of ${characters} characters, ` +
      "and was stopped: a pattern in its files tries such a text in endlessly many ways",
    { limit: "limits.textMs", max },
  );
}

/**
 * {@linkcode withinTime} by the processor's time, at most {@linkcode MOST_TIMES} times as long by the clock.
 *
 * @param processor Processor time of this process; that of its other threads counts with it.
 */
export function withinWork<T>(
  ms: number,
  run: () => T,
  tooLong: () => Error,
  processor: () => number = processorMs,
): T {
  const stopped = new Error("stopped");
  for (let times = 1;; times *= 2) {
    const before = processor();
    try {
      return withinTime(ms * times, run, () => stopped);
    } catch (error) {
      if (error !== stopped) throw error;
      if (times >= MOST_TIMES || processor() - before >= ms / 2) throw tooLong();
    }
  }
}
