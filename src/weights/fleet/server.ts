import type { WeightsGroupOptions } from "../../client/weight_control.ts";
import { HttpError } from "../../errors.ts";
import { PausableServer } from "./pausable_server.ts";
import { deadGroup } from "./dead_group.ts";
import { isMark } from "../../internal/version_marks.ts";

/**
 * What a server's weights are.
 *
 * - `"untouched"`: as before the sync.
 * - `"updating"`: an update was asked for and has not been confirmed.
 * - `"partial"`: some of the new weights, or it cannot be known.
 * - `"taken"`: every update was confirmed, the end of the sync was not.
 * - `"complete"`: all of the new weights.
 * - `"foreign"`: another trainer writes to it, or it was started again; it is left alone.
 */
export type WeightCondition =
  | "untouched"
  | "updating"
  | "partial"
  | "taken"
  | "complete"
  | "foreign";

/** What a sync knows about one server. */
export interface WeightServerState {
  /** Address of the server. */
  readonly url: string;
  /** Its tensor-parallel ranks. */
  readonly tpSize: number;
  /** Its first rank in the group; 0 before there was one. */
  readonly rankOffset: number;
  /** Weight version that it last told, or was given. */
  readonly weightVersion: string | null;
  /** What its weights are. */
  readonly condition: WeightCondition;
  /** Whether it is paused: by a sync that failed, or kept so for somebody else who paused it. */
  readonly paused: boolean;
  /** Why it is not well, when it is not. */
  readonly problem: string | undefined;
  /**
   * The model that guesses tokens ahead for its own one: the server's `--speculative-algorithm`, and
   * its checkpoint, `null` where it is layers of the served one. Absent where there is none.
   */
  readonly draft?: { readonly algorithm: string; readonly model: string | null } | undefined;
}

/** A group that a server is to join, at the rank that it was given. */
export type ServerGroup =
  & Omit<WeightsGroupOptions, "signal" | "timeoutMs" | "rankOffset">
  & {
    readonly groupName: string;
    /** Its first rank there. Default: the one that the fleet gave it. */
    readonly rankOffset?: number | undefined;
  };

/** Where a server has its model and tokenizer from. */
export interface ServedFolders {
  readonly modelPath: string;
  readonly tokenizerPath: string | null;
}

/** A change of weights, among the changes of one sync. */
export interface UpdatePlace {
  /** Whether it is the first. */
  readonly isFirst: boolean;
  /** Whether it is the last. */
  readonly isLast: boolean;
}

/**
 * One server of a fleet: its calls, and what a sync has done to it so far. Its state changes here
 * and nowhere else.
 */
export class FleetServer extends PausableServer {
  readonly #groups = new Set<string>();
  #rankOffset = 0;
  #sessionOpen = false;
  #marked = false;
  #condition: WeightCondition = "untouched";
  #weightVersion: string | null = null;
  #problem: string | undefined;
  #givenVersion: string | undefined;
  #ownMark: string | undefined;
  #served: ServedFolders | undefined;

  /** First rank of this server in a group; 0 before ranks were handed out. */
  get rankOffset(): number {
    return this.#rankOffset;
  }

  /** Whether groups of ours may live on the server. */
  get isInGroup(): boolean {
    return this.#groups.size > 0;
  }

  /** Whether a session of ours may be open on it. */
  get isInSession(): boolean {
    return this.#sessionOpen;
  }

  /** Whether its version was replaced by a mark of ours. */
  get marked(): boolean {
    return this.#marked;
  }

  /** What its weights are. */
  get condition(): WeightCondition {
    return this.#condition;
  }

  /** The version it last told, or was given. */
  override get weightVersion(): string | null {
    return this.#weightVersion;
  }

  protected override get isPartial(): boolean {
    return this.#condition === "partial";
  }

  /** Why it is not well. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** A copy of what is known. */
  get state(): WeightServerState {
    const { url, tpSize, rankOffset, weightVersion, condition, isSilent: paused, problem } = this;
    const { draft } = this;
    const state = { url, tpSize, rankOffset, weightVersion, condition, paused, problem };
    return draft === undefined ? state : { ...state, draft };
  }

  /** Reads what the server is, and refuses one that cannot take part. */
  async probe(signal: AbortSignal, expectedTpSize?: number): Promise<void> {
    const outcomes = await Promise.allSettled([
      this.look(signal, expectedTpSize),
      this.readVersion(signal),
    ]);
    for (const one of outcomes) if (one.status === "rejected") throw one.reason;
    this.#problem = undefined;
  }

  /** Gives it its first rank. */
  assignRank(rankOffset: number): void {
    this.#rankOffset = rankOffset;
  }

  /**
   * Whether an update outside a sync leaves it as it was: with sessions a server may take weights
   * apart for one, and one with the mark of a sync belongs to that.
   */
  get toleratesWarmUp(): boolean {
    const { hasPauseModes, hasWeightSession } = this.capabilities;
    return hasPauseModes && !hasWeightSession && !isMark(this.#weightVersion) && !this.paused;
  }

  /** Notes why it is not well. */
  note(problem: string): void {
    this.#problem = problem;
  }

  /** Notes that a sync goes on without it. */
  leaveOut(problem: string): void {
    this.#problem = problem;
    this.#condition = "partial";
  }

  /** A sync begins: what the last one brought is now what it holds. */
  beginSync(): void {
    const wasWhole = this.#condition === "untouched" || this.#condition === "complete";
    this.#condition = wasWhole ? "untouched" : "partial";
  }

  /**
   * Believes the version rather than what we know: whoever left a server with part of its weights
   * left a mark, and whoever repaired it did not.
   */
  believeVersion(isMark: boolean): void {
    this.#condition = isMark ? "partial" : "untouched";
  }

  /** The folders that it serves from, as it told with its version; known after {@linkcode probe}. */
  get served(): ServedFolders {
    if (this.#served === undefined) throw new Error("A server is used before it was probed");
    return this.#served;
  }

  /** Reads the weight version. */
  async readVersion(signal: AbortSignal): Promise<string | null> {
    const { weightVersion, modelPath, tokenizerPath } = await this.client.modelInfo({ signal });
    this.#weightVersion = weightVersion;
    this.#served = { modelPath, tokenizerPath };
    return weightVersion;
  }

  /** Sets the weight version; nothing is aborted. */
  async setVersion(version: string, signal: AbortSignal): Promise<void> {
    await this.client.updateWeightVersion(version, { signal });
    this.#weightVersion = version;
    this.#givenVersion = version;
  }

  /**
   * Whether the version is not the one that was set here last. Then somebody else set it, or the
   * server was started again and knows nothing of our group; asked for an unknown group, servers up
   * to 0.5.20 end.
   */
  get wasReplaced(): boolean {
    return this.#givenVersion !== undefined && this.weightVersion !== this.#givenVersion;
  }

  /** Replaces its version by a mark of ours. */
  async mark(mark: string, signal: AbortSignal): Promise<void> {
    // Set first: a mark whose answer is lost may have come through.
    this.#marked = true;
    await this.setVersion(mark, signal);
    this.#ownMark = mark;
  }

  /** Our mark on it, as it was written last; `undefined` where it has none of ours. */
  get ownMark(): string | undefined {
    return this.#marked ? this.#ownMark : undefined;
  }

  /** Lets another trainer have it, whose mark stays. */
  standBack(): void {
    this.#marked = false;
  }

  /** Replaces our mark by a version. */
  async unmark(version: string, signal: AbortSignal): Promise<void> {
    await this.setVersion(version, signal);
    this.#marked = false;
  }

  /**
   * Leaves it to whoever wrote to it during our sync: what it holds, and whether it is paused or in a
   * session, is for them to say.
   */
  yieldTo(version: string | null): void {
    this.#condition = "foreign";
    this.#marked = false;
    this.forgetPause();
    this.#sessionOpen = false;
    this.#problem = `left alone: its weight version became ${JSON.stringify(version)} meanwhile`;
  }

  /** What was sent cannot be trusted after all. */
  distrust(): void {
    if (this.#condition !== "foreign") this.#condition = "partial";
  }

  /**
   * The sync failed and the session is closed. Of a server that answered every update only a GPU's
   * answers do not count; one that answered some of them has a part.
   */
  settleFailed(): void {
    if (this.#condition === "taken" && this.isCpu) this.#condition = "complete";
    if (this.#condition === "updating") this.#condition = "partial";
  }

  /** It holds and tells the new weights. */
  completeSync(): void {
    this.#condition = "complete";
    this.#marked = false;
  }

  /** Joins a group. */
  async joinGroup(group: ServerGroup, signal: AbortSignal): Promise<void> {
    // Noted first: a call whose answer is lost may have come through.
    this.#groups.add(group.groupName);
    const rankOffset = group.rankOffset ?? this.#rankOffset;
    await this.client.initWeightsUpdateGroup({ ...group, rankOffset, signal });
  }

  /**
   * Runs a call after which the server holds other weights, and judges from a failure what it holds
   * then. SGLang loads only after every byte of a request has come, so a first request that broke
   * off on the wire changed nothing.
   */
  async whileUpdating(
    place: UpdatePlace,
    call: () => Promise<void>,
  ): Promise<void> {
    const { isFirst, isLast } = place;
    const before = this.#condition;
    this.#condition = "updating";
    try {
      await call();
      if (isLast) this.#condition = "taken";
    } catch (error) {
      const isIntact = isFirst && before === "untouched" && leavesWeightsAlone(error);
      this.#condition = isIntact ? "untouched" : "partial";
      throw error;
    }
  }

  /** Names of the groups of ours that may live on it. */
  get groupNames(): readonly string[] {
    return [...this.#groups];
  }

  /**
   * Ends groups of a trainer that is counted as dead. Should it go on, with an update on its way, then
   * the server refuses that: servers with sessions for want of the group, others because a group of
   * that name is there which can take nothing.
   *
   * @returns names of groups for which the server would end if it were asked for them, and why
   */
  async endForeignGroups(names: readonly string[], signal: AbortSignal): Promise<string[]> {
    const open: string[] = [];
    for (const groupName of names) {
      await this.#destroyGroup(groupName, signal);
      if (this.capabilities.hasWeightSession) continue;
      const dead = deadGroup(this);
      if (dead === undefined) {
        open.push(`${groupName}: its ranks are on several hosts`);
        continue;
      }
      try {
        await this.client.initWeightsUpdateGroup({ ...dead, groupName, signal });
      } catch (error) {
        if (!(error instanceof HttpError)) throw error;
        // Another who took over as well was first.
        if (/already been created/i.test(error.serverMessage)) continue;
        open.push(`${groupName}: ${error.serverMessage}`);
      }
    }
    return open;
  }

  /** Leaves every group of ours. */
  async leaveGroups(signal: AbortSignal): Promise<void> {
    for (const groupName of this.#groups) {
      await this.#destroyGroup(groupName, signal);
      this.#groups.delete(groupName);
    }
  }

  /** Opens a session, where servers have such (from 0.5.22). */
  async openSession(signal: AbortSignal): Promise<void> {
    if (!this.capabilities.hasWeightSession) return;
    // Set first: a begin whose answer is lost may have come through.
    this.#sessionOpen = true;
    try {
      await this.client.beginWeightUpdate({ signal, selector: this.selector });
    } catch (error) {
      // A refusal says that the session there is another's.
      if (error instanceof HttpError) this.#sessionOpen = false;
      throw error;
    }
  }

  /** Closes a session that somebody else left open. */
  async endForeignSession(signal: AbortSignal): Promise<void> {
    this.#sessionOpen = true;
    await this.dropSession(signal);
  }

  /** Closes a session of ours, if one may be open; the server may quantise here. */
  async closeSession(signal: AbortSignal): Promise<void> {
    if (!this.#sessionOpen) return;
    await this.client.endWeightUpdate({ signal });
    this.#sessionOpen = false;
  }

  /** Closes a session of ours, however the server answers. */
  async dropSession(signal: AbortSignal): Promise<void> {
    try {
      await this.closeSession(signal);
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
      this.#sessionOpen = false;
    }
  }

  /** Ends a group; one that the server does not know is gone already. */
  async #destroyGroup(groupName: string, signal: AbortSignal): Promise<void> {
    try {
      await this.client.destroyWeightsUpdateGroup({ groupName, signal });
    } catch (error) {
      if (!(error instanceof HttpError)) throw error;
    }
  }
}

const LOST_ON_THE_WIRE =
  /closed by peer|connection (was )?(reset|closed)|broken pipe|gloo|nccl|failed to receive weights/i;

/** Whether a refusal or failure of the first request of a sync says that nothing was loaded. */
function leavesWeightsAlone(error: unknown): boolean {
  if (!(error instanceof HttpError)) return false;
  const words = error.serverMessage;
  return LOST_ON_THE_WIRE.test(words) || !/partially updated/i.test(words);
}
