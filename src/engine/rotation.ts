import type { Generation } from "../client/types.ts";
import { UnreachableError } from "../errors.ts";
import type { Logger } from "../internal/logger.ts";
import { messageOf } from "../internal/thrown.ts";
import { isMark } from "../internal/version_marks.ts";
import { FIRST_NAME } from "../internal/version_names.ts";
import type { SGLangRouter } from "../router/mod.ts";
import type { FleetAdapters } from "../adapters/fleet_adapters.ts";
import type { VersionLedger } from "../weights/version_ledger.ts";
import { identityOf } from "./connect.ts";
import type { Member } from "./member.ts";
import { FreshLook } from "./fresh_look.ts";
import { objectionToLaggard, objectionToMarks } from "./objections.ts";
import { RouterCalls } from "./router_calls.ts";
import type { WorkerPool } from "./workers.ts";

/** What a rotation works with. */
export interface RotationOptions {
  readonly pool: WorkerPool;
  readonly ledger: VersionLedger;
  /** What a server must have loaded before it serves. */
  readonly adapters: FleetAdapters;
  /** The router's own interface, where there is a router. */
  readonly router: SGLangRouter | undefined;
  /** Key of the servers, which the router needs to take one in. */
  readonly apiKey: string | undefined;
  /** Whether a server whose weights are not the fleet's gets no requests. */
  readonly quarantines: boolean;
  /** Told when some server behind the router answered with weights that none should have. */
  readonly onStranger: () => void;
  /** Told when another version of SGLang answers at a server's address. */
  readonly onReplaced: (member: Member) => Promise<void>;
  readonly logger: Logger;
}

/** Longest wait for a server's own word on its version, and for the router's on a server. */
const CHECK_TIMEOUT_MS = 5_000;
const ROUTER_TIMEOUT_MS = 30_000;
/** Names of weights that are remembered as left behind. */
const MOST_LEFT = 100;

/** Whether a server is to serve. */
interface Decision {
  readonly isWanted: boolean;
}

/**
 * Decides which servers get requests: those whose weights are the fleet's. What counts is what a
 * server says; a sample with a strange version is only a reason to ask.
 */
export class Rotation {
  readonly #options: RotationOptions;
  readonly #checks = new WeakMap<Member, FreshLook>();
  readonly #routerCalls: RouterCalls;
  readonly #warnedOf = new Set<string>();
  /** What was decided last on each server; the router's calls take time, and none undoes a later one. */
  readonly #decisions = new WeakMap<Member, Decision>();
  #routerStarts = 0;
  /** Syncs that run: until they end, servers rightly say odd things. */
  #syncs = 0;
  /** What the last server that served without a sync of ours said; the weights are the fleet's. */
  #lastServed: string | undefined;
  /** The name that each server told last; a mark is none. */
  readonly #names = new WeakMap<Member, string>();
  /** Names that serving servers had before others brought them new weights. */
  readonly #left = new Set<string>();

  constructor(options: RotationOptions) {
    this.#options = options;
    this.#routerCalls = new RouterCalls(options.logger);
  }

  /** A sync of ours begins. */
  syncBegins(): void {
    this.#syncs++;
  }

  /** A sync of ours has ended. */
  syncEnds(): void {
    this.#syncs--;
  }

  /** Whether a router is being started, which does not list all servers yet. */
  get isRouterStarting(): boolean {
    return this.#routerStarts > 0;
  }

  /** Starts a router with the servers that serve, then brings what changed meanwhile. */
  async whileRouterStarts(
    start: (workers: readonly string[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const { pool, router } = this.#options;
    this.#routerStarts++;
    try {
      const serving = pool.workers.filter(({ isServing }) => isServing);
      // A router waits for the servers that it begins with, and one that is gone would hold it up.
      const answers = await Promise.all(
        serving.map(({ client }) =>
          client.modelInfo({ signal, timeoutMs: CHECK_TIMEOUT_MS }).then(() => true, () => false)
        ),
      );
      await start(serving.filter((_, i) => answers[i]).map(({ url }) => url));
      const listed = new Set((await router!.workers({ signal })).map(({ url }) => url));
      await Promise.all(pool.workers.map(async (member) => {
        if (member.isServing && !listed.has(member.url)) await this.#joinRouter(member);
        if (!member.isServing && listed.has(member.url)) await this.leaveRouter(member);
      }));
    } finally {
      this.#routerStarts--;
    }
  }

  /** A sample came; one with a version that no server should have lets the servers be asked. */
  onSample({ weightVersion, weightVersions }: Generation, member: Member | undefined): void {
    const said = weightVersions?.at(-1)?.version ?? weightVersion;
    if (this.#syncs > 0 || !this.#isSuspicious(said)) return;
    // The router does not tell who answered; it may have a server that is not even known here.
    if (member === undefined) this.#options.onStranger();
    else if (member.isServing) void this.check(member);
  }

  /** Asks a server what it holds and draws the conclusion; never rejects. */
  check(member: Member, signal?: AbortSignal): Promise<void> {
    const look = this.#checks.get(member) ?? new FreshLook();
    this.#checks.set(member, look);
    return look.take(() => this.#check(member, signal));
  }

  /**
   * Why a server may not serve; `undefined` when it may. What it is compared with is asked now:
   * before the first sync of ours others may have brought new weights to the servers at any time.
   */
  async judge(member: Member, signal?: AbortSignal): Promise<string | undefined> {
    if (this.#options.ledger.current === undefined && !member.isServing) {
      const objection = objectionToMarks(await this.askOthers(member, signal));
      if (objection !== undefined) return objection;
    }
    return this.objectionTo(member);
  }

  /** Why a server may not serve, by what it last told; `undefined` when it may. */
  objectionTo(member: Member): string | undefined {
    const { ledger } = this.#options;
    const { weightVersion: said, syncedTo } = member;
    const standing = ledger.standingOf(said);
    if (standing === "mark") return `a sync is under way, or left it half-way ("${said}")`;
    const { current } = ledger;
    if (current === undefined) return this.#objectionBeforeSyncs(member);
    if (standing === "untold") {
      // Who was synced told the version that it was given; one that tells none since is another.
      return syncedTo !== undefined || ledger.isTold
        ? undefined
        : `it does not tell the version of its weights; the fleet's are "${current}"`;
    }
    if (standing === "older") {
      return `its weights are "${said}", older than the fleet's "${current}"`;
    }
    if (standing === "unknown") {
      return `it says that its weights are "${said}", which no sync gave it; the fleet's are ` +
        `"${current}"`;
    }
    if (standing === "announced" || syncedTo === said || ledger.isTold) return undefined;
    return `it was not in the sync that brought "${said}"`;
  }

  /**
   * What was decided last on a server: another object after each decision, `undefined` before the
   * first. Who compares it with the router's list sees whether the list is older.
   */
  decisionOn(member: Member): object | undefined {
    return this.#decisions.get(member);
  }

  /** Lets a server serve: with the router first, so that who waits finds it in rotation. */
  async admit(member: Member, reason: string): Promise<void> {
    const { router, pool } = this.#options;
    const decision = this.#decide(member, true);
    if (!member.isServing) {
      if (!await this.#equip(member)) return;
      if (router !== undefined && !await this.#joinRouter(member)) {
        if (this.#decisions.get(member) === decision) this.#decide(member, false);
        return;
      }
    }
    // Whoever took it out meanwhile knew more.
    if (!member.isSynced || this.#decisions.get(member) !== decision) return;
    member.admit(reason);
    this.#served(member);
    pool.changed();
  }

  /** Notes what the fleet serves, as long as no sync of ours says it. */
  #served({ weightVersion }: Member): void {
    if (this.#options.ledger.current !== undefined || weightVersion === null) return;
    if (!isMark(weightVersion)) this.#lastServed = weightVersion;
  }

  /** Asks those that serve, but for one, what they hold now: others may have synced them since. */
  async askOthers(member?: Member, signal?: AbortSignal): Promise<(string | null)[]> {
    const others = this.#options.pool.serving.filter((one) => one !== member);
    return await Promise.all(others.map(async (other) => {
      try {
        const call = { signal, timeoutMs: CHECK_TIMEOUT_MS };
        const { weightVersion } = await other.client.modelInfo(call);
        if (this.#syncs > 0 || !other.isServing) return other.weightVersion;
        if (weightVersion === FIRST_NAME && other.weightVersion !== FIRST_NAME) {
          // Perhaps it was started again; that takes a closer look.
          await this.check(other, signal);
          return other.weightVersion;
        }
        const before = other.weightVersion;
        other.note({ weightVersion });
        this.#heardName(other, before);
        return weightVersion;
      } catch (error) {
        // What it said last is all there is.
        this.#options.logger.debug(`${other.url} was not asked: ${messageOf(error)}`);
        return other.weightVersion;
      }
    }));
  }

  /** Takes note of a server's name; where it serves, a new one means that others brought weights. */
  #heardName(member: Member, versionBefore: string | null): void {
    const { weightVersion: now } = member;
    if (now === null || isMark(now)) return;
    const before = isMark(versionBefore) ? this.#names.get(member) : versionBefore;
    this.#names.set(member, now);
    const hasMoved = member.isServing && before != null && before !== now;
    if (!hasMoved || this.#options.ledger.current !== undefined) return;
    const others = this.#options.pool.serving.filter((one) => one !== member)
      .map(({ weightVersion }) => weightVersion);
    if (!others.includes(now)) {
      // A name that only this one has is of a sync that left the others out.
      this.#left.delete(now);
      for (const name of others) if (name !== null && !isMark(name)) this.#left.add(name);
    } else if (this.#left.has(now)) return;
    this.#left.add(before);
    for (const oldest of this.#left) {
      if (this.#left.size <= MOST_LEFT) break;
      this.#left.delete(oldest);
    }
  }

  /** Gives a server the adapters that the others have; without them it does not serve. */
  async #equip(member: Member): Promise<boolean> {
    const { adapters, logger } = this.#options;
    try {
      await adapters.equip(member);
      return true;
    } catch (error) {
      const reason = `it could not be given its adapters: ${messageOf(error)}`;
      logger.warn(`${member.url} gets no requests: ${reason}`);
      this.#decide(member, false);
      member.quarantine(reason);
      return false;
    }
  }

  /** Takes a server out of rotation whatever it says, until a sync reached it. */
  async hold(member: Member, reason: string): Promise<void> {
    member.hold();
    this.#decide(member, false);
    member.quarantine(reason);
    await this.leaveRouter(member);
  }

  /** Takes a server out of rotation; with `quarantine: false` it is only told of. */
  async takeOut(member: Member, reason: string): Promise<void> {
    const { quarantines, logger } = this.#options;
    const key = `${member.url} ${member.weightVersion}`;
    if (!quarantines && member.state !== "joining") {
      if (!this.#warnedOf.has(key)) logger.warn(`${member.url} serves on although ${reason}`);
      this.#warnedOf.add(key);
      return;
    }
    if (!quarantines) return await this.admit(member, `quarantine is off, although ${reason}`);
    if (member.isServing || member.state === "joining") {
      logger.warn(`${member.url} gets no requests until a sync reached it: ${reason}`);
    }
    this.#decide(member, false);
    member.quarantine(reason);
    await this.leaveRouter(member);
  }

  /** Lets the router forget a server, unless that is to serve when its turn comes. */
  async leaveRouter(member: Member): Promise<void> {
    const { router } = this.#options;
    if (router === undefined) return;
    await this.#routerCalls.run(member.url, "leave out", async () => {
      if (this.#isWanted(member)) return;
      await router.removeWorker(member.url, { timeoutMs: ROUTER_TIMEOUT_MS });
    });
  }

  #decide(member: Member, isWanted: boolean): Decision {
    const decision = { isWanted };
    this.#decisions.set(member, decision);
    return decision;
  }

  /** Whether a server serves, or is about to. */
  #isWanted(member: Member): boolean {
    const { isWanted = member.isServing } = this.#decisions.get(member) ?? {};
    return isWanted && member.isSynced;
  }

  async #check(member: Member, signal: AbortSignal | undefined): Promise<void> {
    const call = { signal, timeoutMs: CHECK_TIMEOUT_MS };
    const { identity: identityBefore, weightVersion: versionBefore } = member;
    let missing: readonly string[];
    try {
      const { weightVersion } = await member.client.modelInfo(call);
      const info = await member.client.serverInfo(call);
      // Whoever syncs it meanwhile judges it then.
      if (this.#syncs > 0 || !member.isSynced) return;
      if (info.version !== member.version) {
        await this.#options.onReplaced(member);
        return;
      }
      member.note({ weightVersion, identity: identityOf(info) });
      missing = await this.#options.adapters.look(member, signal);
    } catch (error) {
      // Whether it lives is not asked here, and who does not answer says nothing wrong.
      this.#options.logger.debug(`${member.url} was not asked: ${messageOf(error)}`);
      return;
    }
    const isOther = identityBefore !== undefined && identityBefore !== member.identity;
    const isFirstName = member.weightVersion === FIRST_NAME && versionBefore !== FIRST_NAME;
    if (isOther || (isFirstName && versionBefore !== null)) {
      member.startedAnew(versionBefore);
      this.#names.delete(member);
    } else this.#heardName(member, versionBefore);
    const objection = await this.judge(member, signal);
    // Asking took time; whoever syncs it meanwhile judges it then.
    if (this.#syncs > 0 || !member.isSynced) return;
    if (objection !== undefined) await this.takeOut(member, objection);
    else if (member.isServing && missing.length > 0) {
      await this.takeOut(member, `it lacks the adapters ${missing.join(", ")}`);
      if (member.isServing) await this.#equip(member);
      else await this.admit(member, "it was given its adapters");
    } else if (member.state === "quarantined" && !member.isHeld) {
      await this.admit(member, "it has the fleet's weights");
    } else if (member.isServing) this.#served(member);
  }

  #isSuspicious(version: string | null): boolean {
    const standing = this.#options.ledger.standingOf(version);
    if (standing === "mark") return true;
    const { current, isTold } = this.#options.ledger;
    if (current === undefined) return false;
    return standing === "older" || standing === "unknown" || (standing === "untold" && !isTold);
  }

  /** Before the first sync the servers' own versions are all there is to compare. */
  #objectionBeforeSyncs(member: Member): string | undefined {
    const { weightVersion: said, fellBackTo, state } = member;
    const { ledger } = this.#options;
    if (fellBackTo !== undefined && fellBackTo === said) {
      return `it was started again and says that its weights are "${said}"`;
    }
    const others = this.#options.pool.serving.filter((one) =>
      one !== member && !isMark(one.weightVersion)
    );
    if (state === "serving") {
      return objectionToLaggard(said, others.map(({ weightVersion }) => weightVersion), this.#left);
    }
    if (others.length === 0) {
      // Who comes back first, when all were gone, brings old weights unless somebody gave it new ones.
      const last = this.#lastServed;
      if (last === undefined || said === last || ledger.standingOf(said) !== "older") {
        return undefined;
      }
      return `its weights are "${said}", those that the fleet served last "${last}"`;
    }
    if (others.some(({ weightVersion }) => weightVersion === said)) return undefined;
    return `its weights are "${said}", the others' "${others[0]!.weightVersion}"`;
  }

  /** Whether the router has a server now, or is gone, so that it does not matter. */
  async #joinRouter(member: Member): Promise<boolean> {
    const { router, apiKey } = this.#options;
    const error = await this.#routerCalls.run(member.url, "take in", async () => {
      if (!this.#isWanted(member)) return;
      await router!.addWorker(member.url, { apiKey, timeoutMs: ROUTER_TIMEOUT_MS });
    });
    return error === undefined || error instanceof UnreachableError;
  }
}
