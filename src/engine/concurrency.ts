import { ValidationError } from "../errors.ts";
import type { EngineOptions } from "./options.ts";
import type { SGLangWorker } from "./workers.ts";

/** Requests at once for a server that does not tell how many it runs. */
const UNTOLD_CONCURRENCY = 256;

/** Refuses a limit that is none. */
export function checkConcurrency({ maxConcurrency }: EngineOptions): void {
  if (maxConcurrency === undefined) return;
  if (Number.isSafeInteger(maxConcurrency) && maxConcurrency > 0) return;
  throw new ValidationError(`maxConcurrency must be an integer above 0, got ${maxConcurrency}`);
}

/** Twice what the servers run at once, or less where their queues are shorter. */
export function defaultConcurrency(
  workers: readonly Pick<SGLangWorker, "maxRunningRequests" | "maxQueuedRequests">[],
): number {
  return workers.reduce((sum, worker) => {
    const running = worker.maxRunningRequests ?? UNTOLD_CONCURRENCY;
    return sum + running + Math.min(running, worker.maxQueuedRequests ?? running);
  }, 0);
}
