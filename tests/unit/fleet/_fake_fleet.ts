/** A fleet that keeps its servers in a list, and servers that live and die on command. */
import type { StartableRouter, StartableServer, SupervisedFleet } from "../../../src/fleet/mod.ts";

/** A server of a {@linkcode FakeFleet}. */
interface FakeWorker {
  readonly url: string;
  state: "joining" | "serving" | "quarantined";
  reason: string;
}

/** What an engine does for a supervisor, without any server. */
export class FakeFleet implements SupervisedFleet {
  readonly calls: string[] = [];
  /** Whether `addWorker` can bring the fleet's weights; else a server waits. */
  canRefit = true;
  /** Thrown by the next calls of `addWorker`. */
  refusals: Error[] = [];
  #workers: FakeWorker[];
  #listeners = new Set<(event: { url: string; to: string; reason: string }) => void>();

  constructor(urls: readonly string[]) {
    this.#workers = urls.map((url) => ({ url, state: "serving", reason: "it was there" }));
  }

  get workers(): readonly FakeWorker[] {
    return this.#workers;
  }

  /** Addresses of those that get requests. */
  get serving(): string[] {
    return this.#workers.filter(({ state }) => state === "serving").map(({ url }) => url);
  }

  addWorker(url: string): Promise<FakeWorker> {
    this.calls.push(`add ${url}`);
    const refusal = this.refusals.shift();
    if (refusal !== undefined) return Promise.reject(refusal);
    const known = this.#workers.find((worker) => worker.url === url);
    const worker: FakeWorker = known ?? { url, state: "joining", reason: "new" };
    if (known === undefined) this.#workers = [...this.#workers, worker];
    this.tell(url, this.canRefit ? "serving" : "quarantined", "by the fake");
    return Promise.resolve(worker);
  }

  removeWorker(url: string, { drainMs }: { drainMs?: number }): Promise<void> {
    this.calls.push(`remove ${url} ${drainMs}`);
    if (this.#workers.length === 1) return Promise.reject(new Error("the last one"));
    this.#workers = this.#workers.filter((worker) => worker.url !== url);
    this.#emit({ url, to: "gone", reason: "removed" });
    return Promise.resolve();
  }

  quarantineWorker(url: string, reason: string): Promise<void> {
    this.calls.push(`quarantine ${url}`);
    this.tell(url, "quarantined", reason);
    return Promise.resolve();
  }

  refreshWorkers(): Promise<void> {
    return Promise.resolve();
  }

  onWorkerEvent(
    listener: (event: { url: string; to: string; reason: string }) => void,
  ): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** The engine found out where a server stands. */
  tell(url: string, to: "serving" | "quarantined", reason: string): void {
    const worker = this.#workers.find((one) => one.url === url);
    if (worker === undefined || worker.state === to) return;
    worker.state = to;
    worker.reason = reason;
    this.#emit({ url, to, reason });
  }

  #emit(event: { url: string; to: string; reason: string }): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** A process that ends when told; each start makes a new one. */
export class FakeServer implements StartableServer {
  readonly url: string;
  /** Starts of this address, the first included. */
  readonly starts: { count: number; fails: boolean };
  readonly #exit = Promise.withResolvers<
    { requested: boolean; exitCode: number | null; signal: string | null }
  >();

  constructor(url: string, starts = { count: 1, fails: false }) {
    this.url = url;
    this.starts = starts;
  }

  get exited() {
    return this.#exit.promise;
  }

  /** Dies as by `kill -9`. */
  kill(): void {
    this.#exit.resolve({ requested: false, exitCode: null, signal: "SIGKILL" });
  }

  restart(): Promise<FakeServer> {
    this.starts.count++;
    if (this.starts.fails) return Promise.reject(new Error("it ended at once"));
    return Promise.resolve(this.latest = new FakeServer(this.url, this.starts));
  }

  /** What the last restart made. */
  latest: FakeServer = this;
}

/** A router that ends when told; a restart gives it a new process. */
export class FakeRouter implements StartableRouter {
  readonly url = "http://router:1";
  starts = 1;
  fails = false;
  isSilent = false;
  #exit = Promise.withResolvers<Awaited<StartableRouter["exited"]>>();

  get exited() {
    return this.#exit.promise;
  }

  /** Dies as by `kill -9`. */
  kill(): void {
    this.#exit.resolve({ requested: false, exitCode: null, signal: "SIGKILL" });
  }

  probe(): Promise<void> {
    return this.isSilent ? Promise.reject(new Error("no answer")) : Promise.resolve();
  }

  restart(): Promise<void> {
    this.starts++;
    if (this.fails) return Promise.reject(new Error("its port is taken"));
    this.#exit.resolve({ requested: true, exitCode: null, signal: "SIGKILL" });
    this.#exit = Promise.withResolvers();
    this.isSilent = false;
    return Promise.resolve();
  }
}
