import type { Clock } from "../internal/clock.ts";
import { withDeadline } from "../internal/deadline.ts";
import { type Logger, silentLogger } from "../internal/logger.ts";
import type { CollectorPolicy } from "./policy.ts";
import { type PolicyVersion, UNKNOWN_VERSION } from "./policy_version.ts";
import type { RolloutRow } from "./row.ts";

/** Enough for any fleet; a server with ever new names must not fill the memory. */
const MOST_WARNINGS = 1_000;

/** What the servers say about their weights, beside the versions that a collector counts. */
export class ServerVersions {
  readonly #policy: CollectorPolicy;
  readonly #versions: PolicyVersion | null;
  readonly #logger: Logger;
  readonly #clock: Clock | undefined;
  readonly #warnedOf = new Set<string>();

  constructor(parts: {
    readonly policy: CollectorPolicy;
    readonly versions: PolicyVersion | null;
    readonly logger?: Logger | undefined;
    readonly clock?: Clock | undefined;
  }) {
    this.#policy = parts.policy;
    this.#versions = parts.versions;
    this.#logger = parts.logger ?? silentLogger;
    this.#clock = parts.clock;
  }

  /** Asks for their names at the start; servers that do not say are logged. Never rejects. */
  async begin(signal: AbortSignal): Promise<void> {
    const versions = this.#versions;
    if (versions === null || this.#policy.weightVersions === undefined) return;
    try {
      const names = await withDeadline({
        phase: "reading the servers' weight version",
        timeoutMs: 10_000,
        signal,
        clock: this.#clock,
      }, (signal) => this.#policy.weightVersions!({ signal }));
      versions.begin(names);
      if (versions.currentIndex === 0) return;
      this.#logger.warn(
        `The servers have different weights at the start (${names.join(", ")}); they count as ` +
          `different versions, of which the present one is ${versions.current}`,
      );
    } catch (error) {
      this.#logger.warn(`The servers' weight version is not known: ${error}`);
    }
  }

  /** Logs a row of weights that nobody announced, once for each server and its weights. */
  warnOfUnknown(row: RolloutRow): void {
    if (row.tokenVersions?.includes(UNKNOWN_VERSION) !== true) return;
    const names = row.weightVersions?.map(({ version }) => version).join(", ");
    const key = `${row.server} ${names}`;
    if (this.#warnedOf.has(key) || this.#warnedOf.size >= MOST_WARNINGS) return;
    this.#warnedOf.add(key);
    this.#logger.warn(
      `${row.server ?? "A server"} made tokens with weights "${names}", which no sync announced: ` +
        "they count as stale",
    );
  }
}
