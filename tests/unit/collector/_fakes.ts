import type { CollectorPolicy, PolicyRequest, PolicySample } from "../../../src/collector/mod.ts";
import type { Environment } from "../../../src/collector/environments/mod.ts";

/** A sample of the given ids that ended by itself. */
export function sampleOf(ids: number[], more: Partial<PolicySample> = {}): PolicySample {
  return {
    message: { role: "assistant", content: ids.join(" ") },
    promptIds: Int32Array.from([7]),
    ids: Int32Array.from(ids),
    logProbs: Float32Array.from(ids, () => -0.5),
    finishReason: { type: "stop", matched: null },
    weightVersion: null,
    weightVersions: null,
    ...more,
  };
}

/** A policy that answers `[dialog, turn]` as its ids, after what `before` does. */
export function fakePolicy(
  before: (request: PolicyRequest, signal: AbortSignal) => void | Promise<void> = () => {},
): CollectorPolicy & { calls: number } {
  return {
    calls: 0,
    async call(request, { signal }) {
      this.calls++;
      await before(request, signal);
      return sampleOf([request.dialog, request.turn]);
    },
  };
}

/** An environment whose dialogs end after `turns` turns; each turn is worth its number. */
export function countingEnvironment(turns = Infinity): Environment {
  return {
    reset: ({ dialog }) => ({ messages: [{ role: "user", content: `dialog ${dialog}` }] }),
    step: ({ turn }) => ({
      messages: [{ role: "user", content: `after ${turn}` }],
      reward: turn,
      done: turn + 1 >= turns,
    }),
  };
}

/** Several of them, to go in step. */
export function countingEnvironments(count: number, turns = Infinity): Environment[] {
  return Array.from({ length: count }, () => countingEnvironment(turns));
}

/** All items of an async iterable. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
