import type { SGLangClient } from "../client/client.ts";
import { type CrashedError, SGLangError, StateError } from "../errors.ts";
import type { EngineWorker } from "./engine.ts";

/** A server of {@linkcode AsyncSGLang}. */
export interface SGLangWorker extends EngineWorker {
  /** Calls to the server, with the engine's keys. */
  readonly client: SGLangClient;
  /** Data-parallel size of the server. */
  readonly dpSize: number;
  /** SGLang version. */
  readonly version: string;
  /** Path or name of the model when the engine connected. */
  readonly modelPath: string;
  /** Class names of the model. */
  readonly architectures: readonly string[];
  /** Most requests that the server runs at once; `null` when it does not tell. */
  readonly maxRunningRequests: number | null;
  /** Most requests that may wait on the server; `null` without a limit. */
  readonly maxQueuedRequests: number | null;
  /** Resolves when a managed server ends although it should run. */
  readonly exited?: Promise<CrashedError> | undefined;
}

/** A server with one request of ours. */
export interface WorkerLease extends Disposable {
  /** The server. */
  readonly worker: SGLangWorker;
}

/** The servers of an engine: which to ask next, and calls to all. */
export class WorkerPool {
  readonly workers: readonly SGLangWorker[];
  readonly #inFlight = new Map<SGLangWorker, number>();
  readonly #crashed = new Map<SGLangWorker, CrashedError>();
  #turn = 0;

  constructor(workers: readonly SGLangWorker[]) {
    if (workers.length === 0) throw new StateError("An engine needs at least one server");
    this.workers = workers;
    for (const worker of workers) {
      this.#inFlight.set(worker, 0);
      worker.exited?.then((crash) => this.#crashed.set(worker, crash));
    }
  }

  /** How a managed server ended, when it did. */
  crashOf(worker: SGLangWorker): CrashedError | undefined {
    return this.#crashed.get(worker);
  }

  /** Takes the server with the fewest requests of ours until disposed; equal ones take turns. */
  lease(without: ReadonlySet<SGLangWorker> = new Set()): WorkerLease {
    const worker = this.#choose(without);
    this.#inFlight.set(worker, this.#inFlight.get(worker)! + 1);
    return {
      worker,
      [Symbol.dispose]: () => {
        this.#inFlight.set(worker, this.#inFlight.get(worker)! - 1);
      },
    };
  }

  /** Calls every server at once and waits for all, then throws the first failure. */
  async onEvery<T>(what: string, call: (worker: SGLangWorker) => Promise<T>): Promise<T[]> {
    const settled = await Promise.allSettled(this.workers.map(call));
    const failures = settled.filter((result) => result.status === "rejected");
    if (failures.length === 0) {
      return settled.map((result) => (result as PromiseFulfilledResult<T>).value);
    }
    const first: unknown = failures[0]!.reason;
    if (failures.length === 1 || !(first instanceof SGLangError)) throw first;
    throw new SGLangError(
      first.code,
      `${what} failed on ${failures.length} of ${this.workers.length} servers, first: ` +
        first.message,
      { cause: new AggregateError(failures.map((failure) => failure.reason)) },
    );
  }

  #choose(without: ReadonlySet<SGLangWorker>): SGLangWorker {
    const left = this.workers.filter((worker) => !without.has(worker));
    const alive = left.filter((worker) => !this.#crashed.has(worker));
    const candidates = alive.length > 0 ? alive : left;
    const least = Math.min(...candidates.map((worker) => this.#inFlight.get(worker)!));
    const equal = candidates.filter((worker) => this.#inFlight.get(worker) === least);
    return equal[this.#turn++ % equal.length]!;
  }
}
