import { FIRST_NAME } from "../../internal/version_names.ts";
import { incompleteMark } from "../fleet/mark.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { WillCall } from "../transport/transport.ts";

/** How a server is to be left if the trainer is killed. */
export type Legacy =
  /** Nothing of ours but the groups is on it. */
  | { readonly holds: "settled" }
  /** Its old weights, under its old version. */
  | { readonly holds: "old"; readonly version: string | null }
  /** Some of the new weights, or nobody knows. */
  | { readonly holds: "some"; readonly version: string; readonly serves: boolean }
  /** All of the new weights. */
  | { readonly holds: "new"; readonly version: string };

/**
 * The calls that leave a server as a failed sync would: out of the groups and the session, under a
 * version that tells what it holds, and generating again unless it holds neither old nor new weights.
 */
export function willOf(
  server: Pick<FleetServer, "groupNames" | "capabilities" | "keepsPause">,
  legacy: Legacy,
): WillCall[] {
  const calls: WillCall[] = server.groupNames.map((group) => ({
    path: "/destroy_weights_update_group",
    body: { group_name: group },
  }));
  if (legacy.holds === "settled") return calls;
  if (server.capabilities.hasWeightSession) calls.push({ path: "/end_weight_update", body: {} });
  const version = legacy.holds === "some" ? incompleteMark(legacy.version) : legacy.version;
  calls.push({
    path: "/update_weight_version",
    body: { new_version: version ?? FIRST_NAME, abort_all_requests: false },
  });
  if (!server.keepsPause && (legacy.holds !== "some" || legacy.serves)) {
    calls.push({ path: "/continue_generation", body: {} });
  }
  return calls;
}
