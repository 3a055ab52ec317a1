import type { FleetServer } from "../fleet/server.ts";
import { onAllSettled } from "../fleet/on_all.ts";
import type { ResolvedOptions } from "../resolved_options.ts";
import { synchronise } from "./verify.ts";

/**
 * Lets GPU servers compile the kernel of the checksum, with which every sync waits for their devices:
 * at its first use that takes seconds, for which they would be paused.
 */
export async function warmChecksums(
  servers: readonly FleetServer[],
  { deadlines, logger }: ResolvedOptions,
  signal: AbortSignal,
): Promise<void> {
  const call = { phase: "warm up the checksum", timeoutMs: deadlines.verifyMs, signal };
  const outcomes = await onAllSettled(
    servers,
    call,
    (server, inner) => synchronise([server], { ...call, signal: inner }),
  );
  for (const outcome of outcomes) if (outcome instanceof Error) logger.warn(outcome.message);
}
