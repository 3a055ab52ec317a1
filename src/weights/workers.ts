import { ValidationError } from "../errors.ts";
import { trimUrl, type WeightSyncOptions, type WeightWorker } from "./options.ts";

/** How to list the servers of the options; an engine is asked anew each time. */
export function resolveWorkers(
  options: Pick<WeightSyncOptions, "serverUrl" | "engine" | "workers">,
): () => readonly WeightWorker[] {
  const { serverUrl, engine, workers } = options;
  const given = [serverUrl, engine, workers].filter((one) => one !== undefined).length;
  if (given !== 1) {
    throw new ValidationError(
      `Give the servers as exactly one of serverUrl, engine and workers, got ${given} of them`,
    );
  }
  if (engine !== undefined) return () => requireDistinct(engine.workers, "The engine");
  const list = (workers ?? [serverUrl!]).map((worker) =>
    typeof worker === "string" ? { url: worker } : worker
  );
  const checked = requireDistinct(list, "workers");
  return () => checked;
}

function requireDistinct(workers: readonly WeightWorker[], what: string): readonly WeightWorker[] {
  if (workers.length === 0) throw new ValidationError(`${what} lists no server`);
  const urls = new Set<string>();
  for (const { url } of workers) {
    const key = trimUrl(url);
    if (!URL.canParse(key)) {
      throw new ValidationError(
        `A server's address must be a URL such as "http://127.0.0.1:30000", got "${url}"`,
      );
    }
    if (urls.has(key)) throw new ValidationError(`${what} lists ${key} twice`);
    urls.add(key);
  }
  return workers;
}
