import { Histogram, secondsEnds, stalenessEnds } from "./histogram.ts";

/** What a {@linkcode Monitor} counted so far; it grows only by the number of servers and steps. */
export class Counts {
  /** Requests that ended. */
  requests = 0;
  /** Of these, those that failed. */
  requestsFailed = 0;
  /** Tokens of the prompts of requests. */
  promptTokens = 0;
  /** Of these, those that came from a prefix cache. */
  cachedTokens = 0;
  /** Tokens that were sampled. */
  outputTokens = 0;
  /** Rows that the collector took. */
  rows = 0;
  /** Batches that it gave out. */
  batches = 0;
  /** Weight syncs that ended. */
  syncs = 0;
  /** Of these, those that failed. */
  syncsFailed = 0;
  /** Servers that were to be brought up to date alone. */
  refits = 0;
  /** Of these, those where it failed. */
  refitsFailed = 0;
  /** Managed servers that were started. */
  serverStarts = 0;
  /** Seconds of requests, with their time in the queue. */
  readonly requestSeconds: Histogram = new Histogram(secondsEnds);
  /** Seconds of syncs that did not fail. */
  readonly syncSeconds: Histogram = new Histogram(secondsEnds);
  /** Seconds of these in which the servers were paused. */
  readonly syncPausedSeconds: Histogram = new Histogram(secondsEnds);
  /** Seconds of their steps, by name. */
  readonly syncStepSeconds: Map<string, Histogram> = new Map();
  /** Versions that the oldest token of a batch is behind. */
  readonly staleness: Histogram = new Histogram(stalenessEnds);
  /** How often each server left the rotation. */
  readonly lost: Map<string, number> = new Map();
  /** Sum of the rewards of whole dialogs. */
  rewardSum = 0;
  /** Whole dialogs. */
  rewardCount = 0;
}
