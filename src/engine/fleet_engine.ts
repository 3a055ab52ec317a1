import type { FleetAdapters } from "../adapters/fleet_adapters.ts";
import type { CallOptions } from "../client/types.ts";
import { StateError } from "../errors.ts";
import type { FleetSync, VersionLedger } from "../weights/mod.ts";
import { RLSGLangEngine } from "./engine.ts";
import type { EngineFleet } from "./fleet.ts";
import type { Member, WorkerEvent } from "./member.ts";
import type { AddWorkerOptions, RefitOptions, RemoveWorkerOptions } from "./membership.ts";
import type { SGLangWorker } from "./workers.ts";

/**
 * An engine whose servers come and go: what {@linkcode AsyncSGLang} can do with the list of its
 * servers. A server gets requests only while its weights are the fleet's; `docs/engine.md` has the
 * table of states.
 */
export abstract class FleetEngine extends RLSGLangEngine {
  readonly #fleet: EngineFleet;

  /** @internal */
  constructor(fleet: EngineFleet) {
    super();
    this.#fleet = fleet;
  }

  /** The servers, each with a client for calls to it alone and where it stands. */
  override get workers(): readonly SGLangWorker[] {
    return this.#fleet.pool.workers;
  }

  /** The servers that weight syncs are for: not those that leave or are brought up to date alone. */
  get syncWorkers(): readonly SGLangWorker[] {
    return this.#fleet.membership.forSync;
  }

  /** The LoRA adapters of the servers: which there are, and which runs with what. */
  get adapters(): FleetAdapters {
    return this.#fleet.adapters;
  }

  /** The names of the fleet's weights. */
  get versions(): VersionLedger {
    return this.#fleet.ledger;
  }

  /**
   * Compares the list of servers with the router's and asks every server what it holds: new ones are
   * taken in, those that the router has no more are forgotten, those whose weights are not the
   * fleet's get no requests until they are brought up to date, which is done where the last sync's
   * weights came from files. The engine does this by itself every `membershipMs` and before each
   * sync. A server or router that does not answer is passed over.
   */
  async refreshWorkers(options: CallOptions = {}): Promise<readonly SGLangWorker[]> {
    this.assertOpen();
    await this.#fleet.refresh(options);
    return this.workers;
  }

  /**
   * Takes a server in. One that was not in the last sync is brought up to date first, alone and
   * while the others serve, then it gets requests, also from the router. Where there is nothing to
   * bring (the last sync's weights are gone and no `source` is given) it waits as `"quarantined"`
   * for the next sync.
   *
   * @throws {UnreachableError} Nobody answers at the address.
   * @throws {ValidationError} It serves another model.
   * @throws {WeightSyncError} It could not be brought up to date; it stays, out of rotation.
   */
  async addWorker(url: string, options: AddWorkerOptions = {}): Promise<SGLangWorker> {
    this.assertOpen();
    return await this.#fleet.membership.add(url, options);
  }

  /**
   * Lets a server go: it gets no new requests, also from the router, its requests may end within
   * `drainMs`, then it is forgotten. The server itself goes on.
   *
   * @throws {StateError} It is not there, or it is the last one.
   */
  async removeWorker(url: string, options: RemoveWorkerOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.membership.remove(this.#member(url), options);
  }

  /**
   * Brings the fleet's weights to one server, alone and while the others serve, and lets it serve.
   *
   * @throws {StateError} It is not there, or there is nothing to bring it.
   * @throws {WeightSyncError} It did not work; the server stays out of rotation.
   */
  async refitWorker(url: string, options: RefitOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.membership.refit(this.#member(url), options);
  }

  /**
   * Takes a server out of rotation until a sync or {@linkcode FleetEngine.refitWorker} reached it,
   * whatever it says of its weights, and also with `quarantine: false`.
   *
   * @throws {StateError} It is not there.
   */
  async quarantineWorker(url: string, reason: string): Promise<void> {
    this.assertOpen();
    await this.#fleet.rotation.hold(this.#member(url), reason);
  }

  /**
   * Says that another process has brought these weights to the servers. From then on a server with
   * others gets no requests. Not needed where this process syncs.
   */
  async tellVersion(version: string, options: CallOptions = {}): Promise<void> {
    this.assertOpen();
    await this.#fleet.tellVersion(version, options);
  }

  /** Calls `listener` whenever a server goes from one state to another, until disposed. */
  onWorkerEvent(listener: (event: WorkerEvent) => void): Disposable {
    return this.#fleet.listen(listener);
  }

  /** A sync is about to read the list of servers; for weight sync. @internal */
  async syncBegins(call: { readonly signal?: AbortSignal | undefined }): Promise<void> {
    await this.#fleet.membership.syncBegins(call.signal);
  }

  /** A sync has ended; for weight sync. @internal */
  async syncEnded(sync: FleetSync): Promise<void> {
    await this.#fleet.syncEnded(sync);
  }

  /** Throws when the engine was shut down. */
  protected abstract assertOpen(): void;

  #member(url: string): Member {
    const member = this.#fleet.pool.find(url.replace(/\/+$/, ""));
    if (member !== undefined) return member;
    const urls = this.workers.map((worker) => worker.url).join(", ");
    throw new StateError(`${url} is no server of this engine; it has ${urls}`);
  }
}
