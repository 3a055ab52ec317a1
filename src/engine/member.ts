import type { SGLangClient } from "../client/client.ts";
import { isMark } from "../internal/version_marks.ts";
import { type CrashedError, StateError } from "../errors.ts";
import type { SGLangWorker } from "./workers.ts";

/**
 * Where a server of an engine stands.
 *
 * | state         | gets requests | gets syncs | comes from                   | goes to                                |
 * | ------------- | ------------- | ---------- | ---------------------------- | -------------------------------------- |
 * | `joining`     | no            | yes        | `addWorker`, the router      | serving, quarantined, draining, gone   |
 * | `serving`     | yes           | yes        | joining, quarantined         | quarantined, draining, gone            |
 * | `quarantined` | no            | yes        | joining, serving             | serving, draining, gone                |
 * | `draining`    | no            | no         | joining, serving, quarantined | gone                                  |
 * | `gone`        | no            | no         | all                          |                                        |
 *
 * The methods of {@linkcode Member} are the transitions; there are no others.
 */
export type WorkerState = "joining" | "serving" | "quarantined" | "draining" | "gone";

/** The transitions that there are. */
export const workerTransitions: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
  joining: ["serving", "quarantined", "draining", "gone"],
  serving: ["quarantined", "draining", "gone"],
  quarantined: ["serving", "draining", "gone"],
  draining: ["gone"],
  gone: [],
};

/** A server went from one state to another. */
export interface WorkerEvent {
  /** Address of the server. */
  readonly url: string;
  /** Where it stood; `undefined` for one that is new. */
  readonly from: WorkerState | undefined;
  /** Where it stands now. */
  readonly to: WorkerState;
  /** Why. */
  readonly reason: string;
}

/** What is known of a server when the engine has asked it. */
export interface WorkerFacts extends Omit<SGLangWorker, "state" | "reason" | "weightVersion"> {
  /** Weight version that it told. */
  readonly weightVersion: string | null;
  /** What differs after a restart, as far as the server tells it. */
  readonly identity: string;
  /** Calls to the server. */
  readonly client: SGLangClient;
}

/** One server of an engine and where it stands; its state changes here and nowhere else. */
export class Member implements SGLangWorker {
  readonly url: string;
  readonly client: SGLangClient;
  readonly tpSize: number;
  readonly dpSize: number;
  readonly deterministic: boolean;
  readonly grammarBackend: string | null;
  readonly version: string;
  readonly modelPath: string;
  readonly architectures: readonly string[];
  readonly maxRunningRequests: number | null;
  readonly maxQueuedRequests: number | null;
  readonly exited: Promise<CrashedError> | undefined;
  /** Requests of ours that it has. */
  inFlight = 0;
  #state: WorkerState = "joining";
  #reason = "it is new";
  #weightVersion: string | null;
  #identity: string | undefined;
  #fellBackTo: string | null | undefined;
  #syncedTo: string | undefined;
  #isHeld = false;
  /** What it said of its weights when it was held. */
  #heldAt: string | null = null;
  #crash: CrashedError | undefined;
  readonly #tell: (event: WorkerEvent) => void;

  constructor(facts: WorkerFacts, tell: (event: WorkerEvent) => void) {
    this.url = facts.url;
    this.client = facts.client;
    this.tpSize = facts.tpSize;
    this.dpSize = facts.dpSize;
    this.deterministic = facts.deterministic;
    this.grammarBackend = facts.grammarBackend;
    this.version = facts.version;
    this.modelPath = facts.modelPath;
    this.architectures = facts.architectures;
    this.maxRunningRequests = facts.maxRunningRequests;
    this.maxQueuedRequests = facts.maxQueuedRequests;
    this.exited = facts.exited;
    this.#weightVersion = facts.weightVersion;
    this.#identity = facts.identity;
    this.#tell = tell;
    facts.exited?.then((crash) => this.#crash = crash);
    tell({ url: this.url, from: undefined, to: "joining", reason: this.#reason });
  }

  get state(): WorkerState {
    return this.#state;
  }

  get reason(): string {
    return this.#reason;
  }

  get weightVersion(): string | null {
    return this.#weightVersion;
  }

  /** What differs after a restart, as it was last told; `undefined` right after a sync. */
  get identity(): string | undefined {
    return this.#identity;
  }

  /** The version that it had after it was started again, until a sync reached it. */
  get fellBackTo(): string | null | undefined {
    return this.#fellBackTo;
  }

  /** The version that the last sync that reached it gave it. */
  get syncedTo(): string | undefined {
    return this.#syncedTo;
  }

  /** Whether only a sync lets it serve again. */
  get isHeld(): boolean {
    return this.#isHeld;
  }

  /** How a managed server ended, when it did and has not served since. */
  get crash(): CrashedError | undefined {
    return this.#crash;
  }

  /** Whether it gets requests. */
  get isServing(): boolean {
    return this.#state === "serving";
  }

  /** Whether syncs are for it. */
  get isSynced(): boolean {
    return this.#state !== "draining" && this.#state !== "gone";
  }

  /** Notes what the server told of itself. */
  note(told: { weightVersion: string | null; identity?: string | undefined }): void {
    this.#weightVersion = told.weightVersion;
    // Another name says that another program's sync reached it.
    const hasMoved = told.weightVersion !== this.#heldAt && !isMark(told.weightVersion);
    if (hasMoved) this.#isHeld = false;
    if (told.identity !== undefined) this.#identity = told.identity;
  }

  /** Whatever it says, only a sync lets it serve again. */
  hold(): void {
    this.#isHeld = true;
    this.#heldAt = this.#weightVersion;
  }

  /** A sync gave it this version. */
  synced(version: string): void {
    this.#weightVersion = version;
    this.#syncedTo = version;
    this.#fellBackTo = undefined;
    this.#isHeld = false;
    // It may have been started again before the sync, which then repaired it: asked at the next check.
    this.#identity = undefined;
  }

  /** It was started again: what a sync once gave it is gone. */
  startedAnew(versionBefore: string | null): void {
    this.#syncedTo = undefined;
    // Held was the process that is gone; of the new one its weights decide.
    this.#isHeld = false;
    if (this.#weightVersion !== versionBefore) this.#fellBackTo = this.#weightVersion;
  }

  /** It holds what the fleet holds: it may serve. */
  admit(reason: string): void {
    // The process that ended was another.
    this.#crash = undefined;
    if (this.#state !== "serving") this.#go("serving", reason);
  }

  /** What it holds is not what the fleet holds: no requests until a sync reached it. */
  quarantine(reason: string): void {
    if (this.#state === "joining" || this.#state === "serving") this.#go("quarantined", reason);
    else if (this.#state === "quarantined") this.#reason = reason;
  }

  /** It leaves: no new requests; those that run go on. */
  drain(reason: string): void {
    if (this.#state !== "draining") this.#go("draining", reason);
  }

  /** It is no server of the engine any more. */
  leave(reason: string): void {
    if (this.#state !== "gone") this.#go("gone", reason);
  }

  #go(to: WorkerState, reason: string): void {
    const from = this.#state;
    if (!workerTransitions[from].includes(to)) {
      throw new StateError(`${this.url} is ${from} and cannot become ${to}`);
    }
    this.#state = to;
    this.#reason = reason;
    this.#tell({ url: this.url, from, to, reason });
  }
}
