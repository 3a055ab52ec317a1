import { ValidationError } from "../errors.ts";

/** Takes numbers of a run, step by step. */
export interface ScalarSink extends AsyncDisposable {
  /**
   * Notes numbers by name. They are on the disk when it resolves.
   *
   * @throws {ValidationError} When the step is no whole number.
   */
  log(step: number, values: Readonly<Record<string, number>>): Promise<void>;
}

/** Refuses what no sink can keep. */
export function checkStep(step: number): void {
  if (Number.isSafeInteger(step)) return;
  throw new ValidationError(`A step must be a whole number, not ${step}`);
}

/**
 * Several sinks as one.
 *
 * @example
 * ```ts ignore
 * await using sink = joinSinks(await tensorBoardSink("runs/1"), await jsonLinesSink("run.jsonl"));
 * await sink.log(1, { reward: 0.5 });
 * ```
 */
export function joinSinks(...sinks: readonly ScalarSink[]): ScalarSink {
  return {
    async log(step, values) {
      await Promise.all(sinks.map((sink) => sink.log(step, values)));
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(sinks.map((sink) => sink[Symbol.asyncDispose]()));
    },
  };
}
