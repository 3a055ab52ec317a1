import { onAllSettled } from "../fleet.ts";
import type { ResolvedOptions } from "../options.ts";
import type { FleetServer } from "../server.ts";

/** Removes every group of ours from the servers; a server that does not answer is only logged. */
export async function destroyGroups(
  servers: readonly FleetServer[],
  options: Pick<ResolvedOptions, "deadlines" | "logger">,
): Promise<void> {
  const call = { phase: "destroy", timeoutMs: options.deadlines.destroyMs };
  const outcomes = await onAllSettled(
    servers,
    call,
    (server, signal) => server.destroyGroups(signal),
  );
  outcomes.forEach((outcome, i) => {
    if (!(outcome instanceof Error)) return;
    servers[i]!.problem = `did not leave the group: ${outcome.message}`;
    options.logger.warn(`A group was not destroyed: ${outcome.message}`);
  });
}
