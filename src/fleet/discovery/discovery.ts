import type { OptionNames } from "../../internal/option_names.ts";
import { LimitError, ValidationError } from "../../errors.ts";
import { canonicalUrl } from "../../internal/canonical_url.ts";
import { type Clock, systemClock } from "../../internal/clock.ts";
import { sleep, withDeadline } from "../../internal/deadline.ts";

/** Finds the servers of a fleet that others start and end. */
export interface ServerDiscovery {
  /** What is looked at, for messages. */
  readonly name: string;
  /** The addresses that there are now; rejects when they cannot be told. */
  servers(options?: { readonly signal?: AbortSignal | undefined }): Promise<readonly string[]>;
  /** The addresses now and whenever they have changed, until the signal fires. */
  watch(options: {
    readonly signal: AbortSignal;
    /** Told when a look failed; the next one is tried. */
    readonly onError?: ((error: unknown) => void) | undefined;
  }): AsyncIterable<readonly string[]>;
}

/** How often to look, and by which time. */
export interface PollingOptions {
  /** Pause between two looks, in milliseconds. */
  readonly intervalMs?: number | undefined;
  /** Longest time for one look, in milliseconds. Default 60 000. */
  readonly lookMs?: number | undefined;
  /** Most servers. Default 10 000. */
  readonly maxServers?: number | undefined;
  /** The time to use. */
  readonly clock?: Clock | undefined;
}

/** The names of all of them. */
export const POLLING_OPTION_NAMES = {
  intervalMs: true,
  lookMs: true,
  maxServers: true,
  clock: true,
} as const satisfies OptionNames<PollingOptions>;

/**
 * A discovery that looks again and again. Who is new counts at once; who is gone has to be gone in two
 * looks in a row, as a file may be half written and a name server may answer with a part.
 */
export function polling(
  name: string,
  look: (signal: AbortSignal | undefined) => Promise<readonly string[]>,
  { intervalMs = 5_000, lookMs = 60_000, maxServers = 10_000, clock = systemClock }: PollingOptions,
): ServerDiscovery {
  for (const [option, value] of Object.entries({ intervalMs, lookMs, maxServers })) {
    if (!(value > 0)) throw new ValidationError(`${option} must be above 0, got ${value}`);
  }
  const servers = async (signal: AbortSignal | undefined) => {
    const phase = `look at ${name}`;
    const found = await withDeadline({ phase, timeoutMs: lookMs, signal, clock }, look);
    if (found.length <= maxServers) return distinct(found);
    throw new LimitError(`${name}: ${found.length} servers, more than maxServers, ${maxServers}`, {
      limit: "maxServers",
      max: maxServers,
    });
  };
  return {
    name,
    servers: ({ signal } = {}) => servers(signal),
    async *watch({ signal, onError }) {
      let before: string | undefined;
      let known: readonly string[] = [];
      while (!signal.aborted) {
        try {
          const found = await servers(signal);
          const told = [...found, ...known.filter((url) => !found.includes(url))];
          known = found;
          const key = told.toSorted().join(" ");
          if (key !== before) yield told;
          before = key;
        } catch (error) {
          if (!signal.aborted) onError?.(error);
        }
        await sleep(intervalMs, { signal, clock }).catch(() => {});
      }
    },
  };
}

/** Addresses without slashes at their ends, each once. */
export function distinct(urls: readonly string[]): string[] {
  return [...new Set(urls.map((url) => canonicalUrl(url)))];
}

/** The address of a server on a host. */
export function serverUrl(host: string, port: number): string {
  const named = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  return `http://${named.replace(/\.$/, "")}:${port}`;
}

/**
 * Refuses a port that is none.
 *
 * @throws {ValidationError} It is no whole number from 1 to 65,535.
 */
export function checkPort(port: number): void {
  if (Number.isInteger(port) && port >= 1 && port <= 65_535) return;
  throw new ValidationError(`port must be a whole number from 1 to 65535, got ${port}`);
}
