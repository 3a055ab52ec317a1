import type { CallOptions } from "../client/types.ts";
import type { Clock } from "../internal/clock.ts";
import type { Logger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";
import { FleetAdapters } from "../adapters/fleet_adapters.ts";
import { ValidationError } from "../errors.ts";
import { type FleetSync, VersionLedger } from "../weights/mod.ts";
import type { Connection } from "./connect.ts";
import { Member, type WorkerEvent } from "./member.ts";
import { Membership } from "./membership.ts";
import type { EngineOptions } from "./options.ts";
import { Rotation } from "./rotation.ts";
import { WorkerPool } from "./workers.ts";

const DEFAULT_MEMBERSHIP_MS = 10_000;
/** While somebody is out of rotation it is looked at more often. */
const QUARANTINE_MS = 1_000;

/** The servers of an engine: who is there, who serves, and what their weights are called. */
export class EngineFleet implements Disposable {
  readonly ledger: VersionLedger = new VersionLedger();
  readonly pool: WorkerPool;
  readonly adapters: FleetAdapters;
  readonly rotation: Rotation;
  readonly membership: Membership;
  readonly #listeners = new Set<(event: WorkerEvent) => void>();
  readonly #options: EngineOptions;
  readonly #hasRouter: boolean;
  /** Folder of the model on this machine, where it is known. */
  readonly modelFolder: string | undefined;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly #closing = new AbortController();
  #cancelLook: (() => void) | undefined;
  #lookedAtMs = -Infinity;

  constructor(
    connection: Connection,
    options: EngineOptions,
    { logger, clock }: { logger: Logger; clock: Clock },
  ) {
    checkOptions(options);
    this.#options = options;
    this.modelFolder = options.modelFolder;
    this.logger = logger;
    this.clock = clock;
    this.#hasRouter = connection.routerControl !== undefined;
    const tell = (event: WorkerEvent) => this.#tell(event);
    const members = connection.workers.map((facts) => new Member(facts, tell));
    this.pool = new WorkerPool(members);
    this.adapters = new FleetAdapters({
      workers: () => this.pool.workers.filter(({ isSynced }) => isSynced),
      onLacking: async (url, reason) => {
        const member = this.pool.find(url);
        if (member !== undefined) await this.rotation.takeOut(member, reason);
      },
      onPublished: () => this.#lookAgain(),
      logger,
      clock,
    });
    this.ledger.found(members.map(({ weightVersion }) => weightVersion));
    this.rotation = new Rotation({
      pool: this.pool,
      ledger: this.ledger,
      adapters: this.adapters,
      router: connection.routerControl,
      apiKey: options.apiKey,
      quarantines: options.quarantine ?? true,
      onStranger: () => this.#lookNow(),
      onReplaced: (member) => this.membership.replace(member),
      logger,
    });
    this.membership = new Membership({
      pool: this.pool,
      rotation: this.rotation,
      ledger: this.ledger,
      adapters: this.adapters,
      router: connection.routerControl,
      followsRouter: connection.followsRouter,
      open: connection.open,
      tell,
      closing: this.#closing.signal,
      logger,
      clock,
    });
    for (const member of members) member.admit("it was there when the engine connected");
    this.#warnOfMixedVersions();
    this.#lookAgain();
  }

  /** Calls `listener` whenever a server goes from one state to another. */
  listen(listener: (event: WorkerEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Looks at every server now, brings up to date who can be, and rejects only by the signal. */
  async refresh(options: CallOptions): Promise<void> {
    await this.membership.refresh({ signal: options.signal, refits: true });
  }

  /** Another process brought these weights. */
  async tellVersion(version: string, options: CallOptions): Promise<void> {
    this.ledger.tell(version);
    await this.membership.refresh({ signal: options.signal, refits: false });
    this.#lookAgain();
  }

  /** A sync has ended. */
  async syncEnded(sync: FleetSync): Promise<void> {
    await this.membership.syncEnded(sync);
    this.#lookAgain();
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    this.#closing.abort();
    this.#cancelLook?.();
  }

  #tell(event: WorkerEvent): void {
    const { url, from, to, reason } = event;
    this.logger.debug(`${url}: ${from ?? "new"} -> ${to} (${reason})`);
    // Somebody is out of rotation: look soon whether a sync reached it.
    if (to === "quarantined") this.#lookAgain();
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.logger.error(`A listener of server states threw: ${messageOf(error)}`);
      }
    }
  }

  /** Plans the next look; needed where servers can come, or can come back with other weights. */
  #lookAgain(): void {
    const { membershipMs = DEFAULT_MEMBERSHIP_MS } = this.#options;
    this.#cancelLook?.();
    this.#cancelLook = undefined;
    if (membershipMs === 0 || this.#closing.signal.aborted) return;
    const isSick = this.pool.workers.some(({ state }) => state === "quarantined");
    const isSynced = this.ledger.current !== undefined || this.adapters.ready.length > 0;
    if (!this.#hasRouter && !isSynced && !isSick) return;
    const delayMs = isSick ? Math.min(QUARANTINE_MS, membershipMs) : membershipMs;
    this.#cancelLook = this.clock.schedule(delayMs, () => void this.#look());
  }

  /** Looks at once, but not for every sample of a server that stays strange. */
  #lookNow(): void {
    const now = this.clock.now();
    if (now - this.#lookedAtMs < QUARANTINE_MS || this.#closing.signal.aborted) return;
    this.#cancelLook?.();
    void this.#look();
  }

  async #look(): Promise<void> {
    this.#lookedAtMs = this.clock.now();
    try {
      await this.membership.refresh({ signal: this.#closing.signal, refits: true });
    } catch (error) {
      this.logger.warn(`The servers could not be looked at: ${messageOf(error)}`);
    }
    this.#lookAgain();
  }

  #warnOfMixedVersions(): void {
    const versions = new Set(this.pool.workers.map(({ weightVersion }) => weightVersion));
    if (versions.size < 2) return;
    const each = this.pool.workers.map(({ url, weightVersion }) => `${url}: "${weightVersion}"`);
    this.logger.warn(
      `The servers have different weights (${each.join(", ")}); the next sync brings them together`,
    );
  }
}

function checkOptions(options: EngineOptions): void {
  const { membershipMs, servingTimeoutMs, equalPromptsWaitMs } = options;
  const times = { membershipMs, servingTimeoutMs, equalPromptsWaitMs };
  for (const [name, value] of Object.entries(times)) {
    if (value === undefined || (typeof value === "number" && value >= 0)) continue;
    throw new ValidationError(`${name} must be a number of milliseconds from 0 on, got ${value}`);
  }
}
