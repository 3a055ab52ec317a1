import type { PauseMode } from "../../client/types.ts";
import type { WeightsGroupOptions } from "../../client/weight_control.ts";
import { HttpError } from "../../errors.ts";
import { ProbedServer } from "./probed_server.ts";
import { sleep } from "../../internal/deadline.ts";

/** How often, and how long after each other, the cache of a server without requests is flushed. */
const FLUSH_LOOKS = 10;
const FLUSH_LOOK_MS = 10;

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
  /** Whether it was paused here and not resumed. */
  readonly paused: boolean;
  /** Why it is not well, when it is not. */
  readonly problem: string | undefined;
}

/** A group that a server is to join, at the rank that it was given. */
export type ServerGroup =
  & Omit<WeightsGroupOptions, "signal" | "timeoutMs" | "rankOffset">
  & {
    readonly groupName: string;
    /** Its first rank there. Default: the one that the fleet gave it. */
    readonly rankOffset?: number | undefined;
  };

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
export class FleetServer extends ProbedServer {
  readonly #groups = new Set<string>();
  #rankOffset = 0;
  #sessionOpen = false;
  #paused = false;
  #isEmptied = false;
  #marked = false;
  #condition: WeightCondition = "untouched";
  #weightVersion: string | null = null;
  #problem: string | undefined;
  #givenVersion: string | undefined;

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

  /** Whether it was paused here and not resumed. */
  get paused(): boolean {
    return this.#paused;
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
  get weightVersion(): string | null {
    return this.#weightVersion;
  }

  /** Why it is not well. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** A copy of what is known. */
  get state(): WeightServerState {
    const { url, tpSize, rankOffset, weightVersion, condition, paused, problem } = this;
    return { url, tpSize, rankOffset, weightVersion, condition, paused, problem };
  }

  /** Reads what the server is, and refuses one that cannot take part. */
  async probe(signal: AbortSignal, expectedTpSize?: number): Promise<void> {
    await this.look(signal, expectedTpSize);
    await this.readVersion(signal);
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
    const isMarked = /^(updating|incomplete):/.test(this.#weightVersion ?? "");
    return hasPauseModes && !hasWeightSession && !isMarked && !this.#paused;
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

  /** Reads the weight version. */
  async readVersion(signal: AbortSignal): Promise<string | null> {
    const { weightVersion } = await this.client.modelInfo({ signal });
    this.#weightVersion = weightVersion;
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
    this.#paused = false;
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

  /** Pauses generation. */
  async pause(mode: PauseMode, signal: AbortSignal): Promise<void> {
    // Set first: a pause whose answer is lost may have come through.
    this.#paused = true;
    if (mode === "abort" && this.canRetract) await this.#retractAndAbort(signal);
    else await this.client.pause(mode, { signal });
  }

  /**
   * Pauses as mode `abort` does, without its sleep of a second: SGLang's own looks once a second
   * whether the aborted requests are gone. Retracted requests are back in the queue, where an abort
   * takes them at once, and none can begin in between. What it says of its load then is out of date:
   * that is counted by the loop that is paused.
   */
  async #retractAndAbort(signal: AbortSignal): Promise<void> {
    await this.client.pause("retract", { signal });
    await this.client.abort("all", { signal });
    this.#isEmptied = true;
  }

  /** Whether a pause has taken all requests off it, so that none is left to end. */
  get isEmptied(): boolean {
    return this.#isEmptied;
  }

  /**
   * Empties the prefix cache of a server that was emptied of requests. One may have been on its way
   * to the queue, or not leave it while nothing runs, such as one whose grammar is compiled.
   */
  async flushEmptied(signal: AbortSignal, timeoutMs: number): Promise<boolean> {
    for (let look = 0; look < FLUSH_LOOKS; look++) {
      if (await this.client.flushCache({ signal, timeoutMs })) return true;
      await this.client.abort("all", { signal });
      await sleep(FLUSH_LOOK_MS, { signal, phase: "flush" });
    }
    // Not even for a moment may one serve that holds neither old nor new weights.
    if (this.#condition === "partial") return false;
    this.#isEmptied = false;
    await this.client.resume({ signal });
    await this.client.pause("abort", { signal });
    return await this.client.flushCache({ signal, timeoutMs });
  }

  /** Resumes generation. */
  async resume(signal: AbortSignal): Promise<void> {
    await this.client.resume({ signal, emptyDeviceCache: true });
    this.#paused = false;
    this.#isEmptied = false;
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

  /** Leaves every group of ours; one that the server does not know is gone already. */
  async leaveGroups(signal: AbortSignal): Promise<void> {
    for (const groupName of this.#groups) {
      try {
        await this.client.destroyWeightsUpdateGroup({ groupName, signal });
      } catch (error) {
        if (!(error instanceof HttpError)) throw error;
      }
      this.#groups.delete(groupName);
    }
  }

  /** Opens a session, where servers have such (from 0.5.22). */
  async openSession(signal: AbortSignal): Promise<void> {
    if (!this.capabilities.hasWeightSession) return;
    // Set first: a begin whose answer is lost may have come through.
    this.#sessionOpen = true;
    try {
      await this.client.beginWeightUpdate({ signal });
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
}

const LOST_ON_THE_WIRE =
  /closed by peer|connection (was )?(reset|closed)|broken pipe|gloo|nccl|failed to receive weights/i;

/** Whether a refusal or failure of the first request of a sync says that nothing was loaded. */
function leavesWeightsAlone(error: unknown): boolean {
  if (!(error instanceof HttpError)) return false;
  const words = error.serverMessage;
  return LOST_ON_THE_WIRE.test(words) || !/partially updated/i.test(words);
}
