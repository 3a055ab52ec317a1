import { checkOptionNames, type OptionNames } from "../internal/option_names.ts";
import { type CrashedError, StateError, ValidationError } from "../errors.ts";
import { canonicalUrl } from "../internal/canonical_url.ts";
import type { Clock } from "../internal/clock.ts";
import { sleep, throwIfAborted, withDeadline } from "../internal/deadline.ts";
import type { Logger } from "../internal/logger.ts";
import { orAborted } from "../internal/or_aborted.ts";
import { messageOf } from "../internal/thrown.ts";
import type { SGLangRouter } from "../router/mod.ts";
import type { FleetSync } from "../weights/mod.ts";
import type { ModelInput } from "../weights/source/mod.ts";
import type { FleetAdapters } from "../adapters/fleet_adapters.ts";
import type { VersionLedger } from "../weights/version_ledger.ts";
import type { Connection } from "./connect.ts";
import { FreshLook } from "./fresh_look.ts";
import { Member, type WorkerEvent, type WorkerFacts } from "./member.ts";
import { isRepeatable, refit } from "./refit.ts";
import type { Rotation } from "./rotation.ts";
import type { SGLangWorker, WorkerPool } from "./workers.ts";

/** What a membership works with. */
export interface MembershipOptions {
  readonly pool: WorkerPool;
  readonly rotation: Rotation;
  readonly ledger: VersionLedger;
  readonly adapters: FleetAdapters;
  readonly router: SGLangRouter | undefined;
  /** Whether the router's list is that of the engine; `undefined`: as soon as they share a server. */
  readonly followsRouter: boolean | undefined;
  /** Asks a server what it is. */
  readonly open: Connection["open"];
  readonly tell: (event: WorkerEvent) => void;
  /** Fires when the engine ends. */
  readonly closing: AbortSignal;
  readonly logger: Logger;
  readonly clock: Clock;
}

/** Options of {@linkcode AsyncSGLang.addWorker}. */
export interface AddWorkerOptions extends RefitOptions {
  /** Resolves when the server's process ends although it should run, where that is known. */
  readonly exited?: Promise<CrashedError> | undefined;
}

const ADD_NAMES = {
  signal: true,
  source: true,
  version: true,
  exited: true,
} as const satisfies OptionNames<AddWorkerOptions>;

/** Options of {@linkcode AsyncSGLang.refitWorker}. */
export interface RefitOptions {
  /** Ends the wait; the server then stays out of rotation. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The weights of the fleet's version. Default: those of the last sync, when they came from files
   * that can be read again.
   */
  readonly source?: ModelInput | undefined;
  /** What the weights are called. Default the fleet's version; needed where there is none yet. */
  readonly version?: string | undefined;
}

const REFIT_NAMES = {
  signal: true,
  source: true,
  version: true,
} as const satisfies OptionNames<RefitOptions>;

/** Options of {@linkcode AsyncSGLang.removeWorker}. */
export interface RemoveWorkerOptions {
  /** Ends the wait; the server is left out at once. */
  readonly signal?: AbortSignal | undefined;
  /** Longest wait for its requests to end, in milliseconds. Default 30 000. */
  readonly drainMs?: number | undefined;
}

const REMOVE_NAMES = {
  signal: true,
  drainMs: true,
} as const satisfies OptionNames<RemoveWorkerOptions>;

const DRAIN_POLL_MS = 100;

/** Which servers an engine has: compares, takes in, lets go. */
export class Membership {
  readonly #options: MembershipOptions;
  readonly #refits = new Map<Member, Promise<void>>();
  #lastSync: FleetSync | undefined;
  readonly #look = new FreshLook();
  readonly #routerLook = new FreshLook();
  #sharesRouter: boolean;
  readonly #refusedOf = new Set<string>();

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.#sharesRouter = options.followsRouter ?? false;
  }

  /** The servers that a sync is for; one that is brought up to date alone is not. */
  get forSync(): readonly Member[] {
    return this.#options.pool.workers.filter((member) =>
      member.isSynced && !this.#refits.has(member)
    );
  }

  /** Compares the list with the router's, and every server's word with what it should be. */
  async refresh(
    { signal, refits }: { signal?: AbortSignal | undefined; refits: boolean },
  ): Promise<void> {
    throwIfAborted(signal, "look at the servers");
    // Shared with others, who go on when this caller gives up.
    const look = this.#look.take(() => this.#refresh(this.#options.closing));
    await (signal === undefined ? look : orAborted(look, signal));
    if (refits) await this.#refitAll(signal);
  }

  /** Follows the list of the router now: who runs it leaves out whom it brings up to date. */
  async followRouter(signal?: AbortSignal): Promise<void> {
    const look = this.#routerLook.take(() => this.#compareWithRouter(this.#options.closing));
    await (signal === undefined ? look : orAborted(look, signal));
  }

  /** Takes a server in; it serves when this resolves, unless there is nothing to bring it yet. */
  async add(url: string, options: AddWorkerOptions): Promise<SGLangWorker> {
    checkOptionNames(options, ADD_NAMES, "addWorker()");
    const { pool } = this.#options;
    const known = pool.find(canonicalUrl(url));
    const member = known ?? await this.#join(url, options);
    if (member.isServing && options.source === undefined) return member;
    const mayRefit = options.source !== undefined || isRepeatable(this.#lastSync);
    if (member.state !== "serving" && !mayRefit) return member;
    await this.refit(member, options);
    return member;
  }

  /** Brings the fleet's weights to one server, while the others serve, and lets it serve. */
  refit(member: Member, options: RefitOptions): Promise<void> {
    checkOptionNames(options, REFIT_NAMES, "refitWorker()");
    const running = this.#refits.get(member);
    if (running !== undefined) return running;
    const work = this.#refit(member, options).finally(() => this.#refits.delete(member));
    this.#refits.set(member, work);
    return work;
  }

  /** Lets a server go: no new requests, a wait for those that run, then it is forgotten. */
  async remove(member: Member, options: RemoveWorkerOptions): Promise<void> {
    checkOptionNames(options, REMOVE_NAMES, "removeWorker()");
    const { pool, rotation, logger, clock } = this.#options;
    const { signal, drainMs = 30_000 } = options;
    const others = pool.workers.filter((one) => one !== member && one.isSynced);
    if (others.length === 0) {
      throw new StateError(`${member.url} is the last server: shut the engine down instead`);
    }
    member.drain("it was removed");
    pool.changed();
    await rotation.leaveRouter(member);
    try {
      await withDeadline({
        phase: `drain ${member.url}`,
        timeoutMs: drainMs,
        peer: member.url,
        signal,
        clock,
      }, async (inner) => {
        while (await this.#isBusy(member, inner)) {
          await sleep(DRAIN_POLL_MS, { signal: inner, clock, phase: "drain" });
        }
      });
    } catch (error) {
      logger.warn(`${member.url} is left out although it may still run requests: ${error}`);
    }
    this.#forget(member, "it was removed");
  }

  /** Another version of SGLang answers at a server's address: what was known of it is void. */
  async replace(member: Member): Promise<void> {
    const { logger } = this.#options;
    if (this.#options.pool.find(member.url) !== member || this.#refits.has(member)) return;
    logger.warn(`${member.url} was replaced by another version of SGLang; it is asked again`);
    this.#forget(member, "another version of SGLang answers at its address");
    await this.#meet(member.url, undefined);
  }

  /** A sync begins: who is there is known first. */
  async syncBegins(signal: AbortSignal | undefined): Promise<void> {
    await this.refresh({ signal, refits: false });
    // Where nobody else serves, who is brought up to date alone is waited for.
    while (this.#refits.size > 0 && !this.forSync.some(({ isServing }) => isServing)) {
      throwIfAborted(signal, "wait for a server that is brought up to date");
      const settled = Promise.race([...this.#refits.values()].map((one) => one.catch(() => {})));
      await (signal === undefined ? settled : orAborted(settled, signal).catch(() => {}));
    }
    this.#options.rotation.syncBegins();
  }

  /** A sync has ended: whom it reached may serve, whom it missed may not. */
  async syncEnded(sync: FleetSync): Promise<void> {
    const { rotation } = this.#options;
    rotation.syncEnds();
    if (!sync.isDone || sync.version === undefined) {
      await Promise.all(this.forSync.map((member) => rotation.check(member, undefined)));
      return;
    }
    const { version } = sync;
    this.#lastSync = sync;
    const states = new Map(sync.servers.map((state) => [state.url, state]));
    await Promise.all(this.forSync.map(async (member) => {
      const state = states.get(member.url);
      if (state?.condition === "complete" && state.weightVersion === version) {
        member.synced(version!);
        await rotation.admit(member, `it was synced to "${version}"`);
        return;
      }
      const why = state?.problem === undefined ? "" : ` (${state.problem})`;
      await rotation.takeOut(member, `it missed the sync to "${version}"${why}`);
    }));
  }

  async #refresh(signal: AbortSignal): Promise<void> {
    await this.followRouter(signal);
    const { rotation, pool } = this.#options;
    await Promise.all(
      pool.workers.filter(({ isSynced }) => isSynced)
        .filter((member) => !this.#refits.has(member))
        .map((member) => rotation.check(member, signal)),
    );
  }

  async #compareWithRouter(signal: AbortSignal | undefined): Promise<void> {
    const { router, pool, logger, rotation } = this.#options;
    if (router === undefined || rotation.isRouterStarting) return;
    let urls: ReadonlySet<string>;
    // Who was let in after this may not be in the list yet.
    const serving = new Map(
      pool.workers.filter(({ isServing }) => isServing).map((member) =>
        [member, rotation.decisionOn(member)] as const
      ),
    );
    try {
      urls = new Set((await router.workers({ signal, timeoutMs: 5_000 })).map(({ url }) => url));
    } catch (error) {
      logger.warn(`The router's list of servers cannot be read: ${messageOf(error)}`);
      return;
    }
    // It was started meanwhile, and this may be only a part of its list.
    if (rotation.isRouterStarting) return;
    // Where the servers have other addresses for the router, the lists cannot be compared.
    this.#sharesRouter ||= pool.workers.some(({ url }) => urls.has(url));
    if (!this.#sharesRouter) return;
    for (const member of pool.workers) {
      const isListed = urls.has(member.url);
      // One that was taken out of rotation has no business in the router.
      if (isListed && member.state === "quarantined") await rotation.leaveRouter(member);
      if (isListed || !member.isServing || urls.size === 0) continue;
      if (!serving.has(member) || serving.get(member) !== rotation.decisionOn(member)) continue;
      logger.warn(`${member.url} is forgotten: the router does not have it any more`);
      this.#forget(member, "the router does not have it any more");
    }
    const strangers = [...urls].filter((url) => pool.find(url) === undefined);
    await Promise.all(strangers.map((url) => this.#meet(url, signal)));
  }

  /** Takes in a server that somebody added to the router. */
  async #meet(url: string, signal: AbortSignal | undefined): Promise<void> {
    const { logger } = this.#options;
    try {
      await this.#join(url, { signal });
      this.#refusedOf.delete(url);
    } catch (error) {
      if (this.#refusedOf.has(url)) return;
      this.#refusedOf.add(url);
      logger.warn(`${url}, which the router has, is not taken in: ${messageOf(error)}`);
    }
  }

  /** Makes a server a member that serves, or that waits for the fleet's weights. */
  async #join(
    url: string,
    options: { signal?: AbortSignal | undefined; exited?: Promise<CrashedError> | undefined },
  ): Promise<Member> {
    const { pool, rotation, logger, ledger } = this.#options;
    const facts = await this.#options.open(url, options);
    checkModel(facts, pool.workers);
    const known = pool.find(facts.url);
    if (known !== undefined) return known;
    const member = new Member(facts, this.#options.tell);
    pool.add(member);
    if (ledger.current === undefined) ledger.found([facts.weightVersion]);
    const objection = await rotation.judge(member, options.signal);
    if (objection === undefined) await rotation.admit(member, "it has the fleet's weights");
    else await rotation.takeOut(member, objection);
    logger.info(`${url} is a server of the engine now, and is ${member.state}: ${member.reason}`);
    return member;
  }

  /** Brings up to date, in the background of the syncs, who is out of rotation and can be. */
  async #refitAll(signal: AbortSignal | undefined): Promise<void> {
    const { pool, logger } = this.#options;
    if (!isRepeatable(this.#lastSync)) return;
    const stale = pool.workers.filter(({ state }) => state === "quarantined");
    await Promise.all(stale.map(async (member) => {
      try {
        await this.refit(member, { signal });
      } catch (error) {
        logger.warn(`${member.url} could not be brought up to date: ${messageOf(error)}`);
      }
    }));
  }

  async #refit(member: Member, options: RefitOptions): Promise<void> {
    const { rotation, ledger, logger } = this.#options;
    if (!member.isSynced) throw new StateError(`${member.url} is ${member.state}`);
    if (member.isServing) await rotation.hold(member, "it is being brought up to date");
    for (;;) {
      const version = options.version ?? ledger.current;
      const { source, signal } = options;
      await refit({ member, version, source, last: this.#lastSync, logger }, { signal });
      // A sync of the others may have ended meanwhile; then these weights are old again.
      if (options.version !== undefined || version === ledger.current) break;
    }
    const { current } = ledger;
    if (current === undefined) ledger.publish(options.version!);
    member.synced(options.version ?? current!);
    const objection = rotation.objectionTo(member);
    if (objection !== undefined) await rotation.takeOut(member, objection);
    else await rotation.admit(member, `it was brought up to date with "${member.weightVersion}"`);
  }

  async #isBusy(member: Member, signal: AbortSignal): Promise<boolean> {
    if (member.inFlight > 0) return true;
    try {
      const { running, waiting } = await member.client.load({ signal });
      return running + waiting > 0;
    } catch {
      // Who does not answer runs nothing that could be waited for.
      return false;
    }
  }

  #forget(member: Member, reason: string): void {
    this.#options.pool.forget(member);
    member.leave(reason);
    this.#options.adapters.forget(member.url);
  }
}

function checkModel(facts: WorkerFacts, members: readonly Member[]): void {
  const [first] = members;
  if (first === undefined || first.architectures.join() === facts.architectures.join()) return;
  throw new ValidationError(
    `The servers have different models: ${first.architectures} at ${first.url}, ` +
      `${facts.architectures} at ${facts.url}`,
  );
}
