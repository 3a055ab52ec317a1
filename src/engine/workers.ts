import { retold } from "../internal/retold.ts";
import type { SGLangClient } from "../client/client.ts";
import { type CrashedError, SGLangError, StateError, UnreachableError } from "../errors.ts";
import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import type { EngineWorker } from "./engine.ts";
import type { Member, WorkerState } from "./member.ts";
import { type Beginnings, PrefixAffinity } from "./prefix_affinity.ts";

/** Requests at once for a server that does not tell how many it runs. */
const UNTOLD_CONCURRENCY = 256;

/** How far a server may be above the mean for the sake of its cache. */
const MOST_OVER_MEAN = 1.1;
/** Where there is little to do a few more requests do no harm: they run in one batch. */
const MOST_OVER_LEAST = 8;

/** A server of {@linkcode AsyncSGLang}. */
export interface SGLangWorker extends EngineWorker {
  /** Calls to the server, with the engine's keys. */
  readonly client: SGLangClient;
  /** Data-parallel size of the server. */
  readonly dpSize: number;
  /** Whether it gives the same tokens for the same seed, and one seed to all that have none. */
  readonly deterministic: boolean;
  /**
   * What makes answers follow a grammar, `"none"` where nothing does, as on a CPU before 0.5.23, which
   * ends from one; `null` when it does not tell.
   */
  readonly grammarBackend: string | null;
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
  /** Where it stands. */
  readonly state: WorkerState;
  /** Why it stands there. */
  readonly reason: string;
  /** Weight version that it last told, or was given. */
  readonly weightVersion: string | null;
}

/** A server with one request of ours. */
export interface WorkerLease extends Disposable {
  /** The server. */
  readonly worker: Member;
}

/** How to wait for a server that may serve. */
export interface ServingWait {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs: number;
  readonly clock: Clock;
}

/** The servers of an engine: which to ask next, and calls to all. */
export class WorkerPool {
  #members: readonly Member[];
  readonly #affinity = new PrefixAffinity<Member>();
  /** Whether there was ever more than one. */
  #hasChoice: boolean;
  #turn = 0;
  #changed = Promise.withResolvers<void>();

  constructor(members: readonly Member[]) {
    if (members.length === 0) throw new StateError("An engine needs at least one server");
    this.#members = members;
    this.#hasChoice = members.length > 1;
  }

  /** The servers that are there, whether they serve or not. */
  get workers(): readonly Member[] {
    return this.#members;
  }

  /** The servers that get requests. */
  get serving(): readonly Member[] {
    return this.#members.filter(({ isServing }) => isServing);
  }

  /** Whether some server may serve again after the next sync. */
  get hasQuarantined(): boolean {
    return this.#members.some(({ state }) => state === "quarantined");
  }

  /** The server at an address. */
  find(url: string): Member | undefined {
    return this.#members.find((member) => member.url === url);
  }

  /** Takes a server in. */
  add(member: Member): void {
    this.#members = [...this.#members, member];
    this.#hasChoice ||= this.#members.length > 1;
    this.changed();
  }

  /** Forgets a server that has left. */
  forget(member: Member): void {
    this.#members = this.#members.filter((one) => one !== member);
    this.changed();
  }

  /** Says that a server's state changed, to those who wait. */
  changed(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers<void>();
  }

  /**
   * Waits until a server may serve. Mostly one does, and nothing is waited for.
   *
   * @throws {StateError} None does in time; tells why of each.
   */
  async untilServing(wait: ServingWait): Promise<void> {
    if (this.#members.some(({ isServing }) => isServing)) return;
    const { timeoutMs, signal, clock } = wait;
    let hasWaited = false;
    await withDeadline(
      { phase: "wait for a server that may serve", timeoutMs, signal, clock },
      async (inner) => {
        while (!inner.aborted && this.serving.length === 0) await this.#changed.promise;
        hasWaited = !inner.aborted;
      },
    ).catch((error) => {
      if (hasWaited || signal?.aborted) throw error;
      throw new StateError(
        `No server may serve: ${this.#whyNot()}. Bring new weights to them (updateWeights), or ` +
          "refitWorker() them; quarantine: false lets them serve as they are",
        { cause: error },
      );
    });
  }

  /**
   * Takes a serving server until disposed: the one that has the beginning of what is sent, unless it
   * has far more to do than the others; else the one with the fewest requests of ours, equal ones in
   * turn.
   */
  lease(without: ReadonlySet<SGLangWorker> = new Set(), sent?: Beginnings): WorkerLease {
    const candidates = this.#candidates(without);
    // Who was alone from the beginning has all dialogs; who is left alone has to be remembered.
    const worker = sent === undefined || !this.#hasChoice
      ? this.#leastBusy(candidates)
      : this.#nearest(candidates, sent);
    worker.inFlight++;
    return { worker, [Symbol.dispose]: () => void worker.inFlight-- };
  }

  /** Asks one server what all can answer, whatever their weights; one that is gone is passed over. */
  async onAny<T>(call: (worker: Member) => Promise<T>): Promise<T> {
    const tried = new Set<SGLangWorker>();
    for (;;) {
      using lease = this.lease(tried);
      const { worker } = lease;
      try {
        return await call(worker);
      } catch (error) {
        tried.add(worker);
        if (!(error instanceof UnreachableError)) throw error;
        if (this.#members.every((member) => tried.has(member))) throw worker.crash ?? error;
      }
    }
  }

  /** Calls every server at once and waits for all, then throws the first failure. */
  async onEvery<T>(what: string, call: (worker: Member) => Promise<T>): Promise<T[]> {
    const members = this.#members;
    const settled = await Promise.allSettled(members.map(call));
    const failures = settled.filter((result) => result.status === "rejected");
    if (failures.length === 0) {
      return settled.map((result) => (result as PromiseFulfilledResult<T>).value);
    }
    const first: unknown = failures[0]!.reason;
    if (failures.length === 1 || !(first instanceof SGLangError)) throw first;
    throw retold(
      first,
      `${what} failed on ${failures.length} of ${members.length} servers, first: ` +
        first.message,
      new AggregateError(failures.map((failure) => failure.reason)),
    );
  }

  /** Of the serving ones that were not tried, those not known to be dead; else whoever is left. */
  #candidates(without: ReadonlySet<SGLangWorker>): readonly Member[] {
    const untried = this.#members.filter((member) => !without.has(member));
    const serving = untried.filter(({ isServing }) => isServing);
    const left = serving.length > 0 ? serving : untried.length > 0 ? untried : this.#members;
    const alive = left.filter(({ crash }) => crash === undefined);
    return alive.length > 0 ? alive : left;
  }

  #leastBusy(candidates: readonly Member[]): Member {
    let least = Infinity;
    for (const { inFlight } of candidates) least = Math.min(least, inFlight);
    const equal = candidates.filter(({ inFlight }) => inFlight === least);
    return equal[this.#turn++ % equal.length]!;
  }

  /** Consistent with what went before, with a bound on the load (Mirrokni and others, 2016). */
  #nearest(candidates: readonly Member[], beginnings: Beginnings): Member {
    const known = this.#affinity.find(beginnings);
    const chosen = known !== undefined && candidates.includes(known) && hasRoom(known, candidates)
      ? known
      : this.#leastBusy(candidates);
    this.#affinity.note(beginnings, chosen);
    return chosen;
  }

  #whyNot(): string {
    return this.#members.map(({ url, state, reason }) => `${url} is ${state}: ${reason}`).join(
      "; ",
    );
  }
}

/** Whether a server may get one more request: a tenth above the mean, or some more than the least. */
function hasRoom(member: Member, candidates: readonly Member[]): boolean {
  let sum = 0;
  let least = Infinity;
  for (const { inFlight } of candidates) {
    sum += inFlight;
    least = Math.min(least, inFlight);
  }
  const bound = Math.max(MOST_OVER_MEAN * (sum + 1) / candidates.length, least + MOST_OVER_LEAST);
  return member.inFlight + 1 <= bound;
}

/** Twice what the servers run at once, or less where their queues are shorter. */
export function defaultConcurrency(
  workers: readonly Pick<SGLangWorker, "maxRunningRequests" | "maxQueuedRequests">[],
): number {
  return workers.reduce((sum, worker) => {
    const running = worker.maxRunningRequests ?? UNTOLD_CONCURRENCY;
    return sum + running + Math.min(running, worker.maxQueuedRequests ?? running);
  }, 0);
}
