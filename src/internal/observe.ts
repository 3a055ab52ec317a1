/**
 * What the library does, told to those who look: traces, metrics and the live page begin here. While
 * nobody looks, an operation costs one comparison.
 */

/** What is watched from its beginning to its end. */
export type OperationName =
  | "generate"
  | "turn"
  | "dialog"
  | "group"
  | "batch"
  | "sync"
  | "sync.step"
  | "server.start"
  | "refit";

/** What is known of an operation; an absent value is not known. */
export type Facts = Record<string, string | number | boolean | undefined>;

/** Something that goes on. */
export interface Operation {
  readonly name: OperationName;
  /** The engine, collector or sender that does it. */
  readonly subject: object | undefined;
  /** What is known; the one who does it adds what it learns before the end. */
  readonly facts: Facts;
}

/** One observer's view of one operation. */
export interface Watch {
  /** Runs work so that what begins in it belongs to this operation. */
  within?<T>(work: () => T): T;
  /** The operation is over; it failed where there is an error. */
  end(error?: unknown): void;
}

/** Something that happened at one moment. */
export interface Happening {
  readonly name: "sync.begins" | "sync.progress" | "row";
  /** The engine, collector or sender in which it happened. */
  readonly subject: object;
  readonly value: unknown;
}

/** Somebody who looks. What it throws is lost: looking must not decide what becomes of a run. */
export interface Observer {
  /** An operation begins. */
  begin?(operation: Operation): Watch | undefined;
  /** Something happened. */
  told?(happening: Happening): void;
  /** Headers that tell a server which operation a request belongs to. */
  headers?(): Readonly<Record<string, string>>;
}

const observers = new Set<Observer>();
const noHeaders: Readonly<Record<string, string>> = {};
const nothing: Watch = { end() {} };

/** Lets somebody look, until disposed. */
export function observe(observer: Observer): Disposable {
  observers.add(observer);
  return { [Symbol.dispose]: () => void observers.delete(observer) };
}

/** Whether somebody looks; for what costs something to find out. */
export function isObserved(): boolean {
  return observers.size > 0;
}

/** Does work as an operation; `work` gets its facts, to add to them. */
export async function observed<T>(
  name: OperationName,
  subject: object | undefined,
  facts: Facts,
  work: (facts: Facts) => Promise<T>,
): Promise<T> {
  if (observers.size === 0) return await work(facts);
  const watch = beginObserved({ name, subject, facts });
  try {
    const result = await watch.within!(() => work(facts));
    watch.end();
    return result;
  } catch (error) {
    watch.end(error ?? new Error("unknown"));
    throw error;
  }
}

/** Begins an operation whose end comes elsewhere. */
export function beginObserved(operation: Operation): Watch {
  if (observers.size === 0) return nothing;
  const watches = [...observers].flatMap((observer) =>
    quietly(() => observer.begin?.(operation)) ?? []
  );
  return {
    within: (work) =>
      watches.reduceRight(
        (inner, watch) => watch.within === undefined ? inner : () => watch.within!(inner),
        work,
      )(),
    end: (error) => {
      for (const watch of watches) quietly(() => watch.end(error));
    },
  };
}

/** Tells what happened to those who look. */
export function tell(happening: Happening): void {
  for (const observer of observers) quietly(() => observer.told?.(happening));
}

/** Headers for a request that belongs to what goes on here. */
export function propagationHeaders(): Readonly<Record<string, string>> {
  if (observers.size === 0) return noHeaders;
  let headers = noHeaders;
  for (const observer of observers) {
    if (observer.headers === undefined) continue;
    headers = { ...headers, ...quietly(() => observer.headers!()) };
  }
  return headers;
}

function quietly<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
