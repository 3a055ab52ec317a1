/** What a monitor needs of an engine, a collector and a sender; ours have it. */
import type { CollectorStats } from "../collector/mod.ts";

/** A fleet. */
export interface WatchedEngine {
  /** The servers. */
  readonly workers: readonly WatchedServer[];
  /** Requests that the servers have, and those that wait here. */
  readonly requests?: { readonly inFlight: number; readonly queued: number };
  /** Finds out who is there now; called while somebody looks. */
  lookAround?(call: WatchedCall): Promise<void>;
  /** Tells when a server goes from one state to another. */
  onWorkerEvent?(listener: (event: WatchedEvent) => void): Disposable;
  /** Who starts servers again; knows those that are out of the list, too. */
  readonly supervisor?: {
    /** The supervised servers. */
    readonly servers: readonly {
      readonly url: string;
      readonly state: string;
      readonly reason: string;
      readonly isDrained: boolean;
      readonly weightVersion: string | null;
    }[];
  } | undefined;
}

/** A server went from one state to another. */
export interface WatchedEvent {
  /** Address of the server. */
  readonly url: string;
  /** Where it stood; `undefined` for one that is new. */
  readonly from: string | undefined;
  /** Where it stands now. */
  readonly to: string;
  /** Why. */
  readonly reason: string;
}

/** A server of a fleet. */
export interface WatchedServer {
  /** Address of the server. */
  readonly url: string;
  /** Where it stands, such as `serving`. */
  readonly state?: string | undefined;
  /** Why it stands there. */
  readonly reason?: string | undefined;
  /** Weight version that it last told. */
  readonly weightVersion?: string | null | undefined;
  /** SGLang version. */
  readonly version?: string | undefined;
  /** Path or name of the model. */
  readonly modelPath?: string | undefined;
  /** Calls to it. */
  readonly client?: {
    /** Whether this program paused it and has not resumed it. */
    readonly isPaused?: boolean;
    /** What it can do; asked once. */
    capabilities?(options: WatchedCall): Promise<{ readonly hasReady: boolean }>;
    /** Whether it takes requests now, told at once. */
    ready?(options: WatchedCall): Promise<boolean>;
    /** Whether it generates: it makes a token for this. */
    generates?(options: WatchedCall): Promise<boolean>;
    load(options: WatchedCall): Promise<{
      readonly running: number;
      readonly waiting: number;
      readonly tokensPerSecond: number | null;
      readonly tokenUsage: number | null;
      readonly cacheHitRate: number | null;
    }>;
  };
}

/** Deadline and cancellation of a question. */
export interface WatchedCall {
  /** Longest wait, in milliseconds. */
  readonly timeoutMs: number;
  /** Cancellation. */
  readonly signal: AbortSignal | undefined;
}

/** Rollouts. */
export interface WatchedCollector {
  /** What was done so far. */
  readonly stats: CollectorStats;
  /** Dialogs that run. */
  readonly running: number;
  /** Elements that wait for the reader. */
  readonly waiting: number;
  /** The present policy version. */
  readonly policyVersion: number | string | null;
}

/** Weight syncs; only who they are. */
export interface WatchedSender {
  /** Whether the way to the servers is open. */
  checkConnection(): boolean;
}

/** A sync that runs or ran. */
export interface WatchedSync {
  /** When it began, as milliseconds since 1970. */
  readonly startedAt: number;
  /** How it stands. */
  readonly state: "running" | "done" | "failed";
  /** Where the weights come from. */
  readonly source: string;
  /** What they are called; `null` while that is not told. */
  readonly version: string | null;
  /** The step that runs, or ran last. */
  readonly step: string;
  /** The steps so far in their order, with their milliseconds; `null` for the one that runs. */
  readonly steps: readonly { readonly name: string; readonly ms: number | null }[];
  /** The step in words. */
  readonly message: string;
  /** Bytes of weights that every server has taken in. */
  readonly bytesDone: number;
  /** Bytes of all weights; 0 until they are known. */
  readonly bytesTotal: number;
  /** Milliseconds since it began. */
  readonly elapsedMs: number;
  /** How long the servers were paused; `null` before the end. */
  readonly pausedMs: number | null;
  /** Why it failed. */
  readonly error: string | null;
}
