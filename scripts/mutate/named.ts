/** Mutants that once lived through all unit tests; each must be noticed for good. */

/** A change of one text of a source, and the tests that must notice it. */
export interface NamedMutant {
  readonly what: string;
  readonly path: string;
  readonly find: string;
  readonly replace: string;
  readonly tests: readonly string[];
}

const unit = (...names: string[]) => names.map((name) => `tests/unit/${name}_test.ts`);

export const NAMED: readonly NamedMutant[] = [
  {
    what: "who waits at the gate passes first come, first served",
    path: "src/collector/gate.ts",
    find: 'if (this.waiting === 0 && this.#ask(request) === "pass")',
    replace: 'if (this.#ask(request) === "pass")',
    tests: unit("collector/gate"),
  },
  {
    what: "the server with the fewest requests is asked",
    path: "src/engine/workers.ts",
    find: "const equal = candidates.filter(({ inFlight }) => inFlight === least);",
    replace: "const equal = candidates;",
    tests: unit("engine/workers"),
  },
  {
    what: "a weight that is there twice is refused",
    path: "src/weights/sync/names.ts",
    find: "if (seen.has(name)) complaints.push",
    replace: "if (false) complaints.push",
    tests: unit("weights/names"),
  },
  {
    what: "names come from the tokenizer's folder where the model's is gone",
    path: "src/weights/sync/names.ts",
    find: "const second = tokenizerPath === null || tokenizerPath === modelPath",
    replace: "const second = true",
    tests: unit("weights/names"),
  },
  {
    what: "a sync that ran meanwhile is noticed by the version it left",
    path: "src/weights/fleet/lease.ts",
    find: "if (hasChanged || ",
    replace: "if (",
    tests: unit("weights/verify"),
  },
  {
    what: "a CPU server that took the last bucket is complete",
    path: "src/weights/fleet/server.ts",
    find: 'if (this.#condition === "taken" && this.isCpu)',
    replace: 'if (this.#condition === "taken")',
    tests: unit("weights/verify"),
  },
  {
    what: "the first failure ends the same step on the other servers",
    path: "src/weights/fleet/on_all.ts",
    find: "stop.abort(error);",
    replace: "",
    tests: unit("weights/verify"),
  },
  {
    what: "a value that is not the one sent is noticed",
    path: "src/weights/sync/verify.ts",
    find: "RELATIVE_TOLERANCE = 2 ** -7",
    replace: "RELATIVE_TOLERANCE = 1e9",
    tests: unit("weights/verify"),
  },
  {
    what: "checksums are compared",
    path: "src/weights/sync/verify.ts",
    find: "if (other.checksum === checksum) return;",
    replace: "return;",
    tests: unit("weights/verify"),
  },
  {
    what: "greedy continuations are compared",
    path: "src/weights/sync/verify.ts",
    find: "if (sample.ids.join() === expected.ids.join()) return;",
    replace: "return;",
    tests: unit("weights/verify"),
  },
  {
    what: "stale dialogs are tried again a limited number of times",
    path: "src/collector/batch_queue.ts",
    find: 'onStale === "retry" && attempt < MAX_STALE_RETRIES',
    replace: 'onStale === "retry"',
    tests: unit("collector/stale_retries"),
  },
  {
    what: "a control call is sent once, also over a kept-alive connection that dies",
    path: "src/http/pool.ts",
    find: 'if (!mayBeOld || request.method !== "GET") throw known;',
    replace: "if (!mayBeOld) throw known;",
    tests: unit("http/pool"),
  },
];
