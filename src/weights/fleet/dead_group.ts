import type { WeightsGroupOptions } from "../../client/weight_control.ts";
import type { ProbedServer } from "./probed_server.ts";

/** Where a server with several ranks may listen for them; one with one rank lets the system choose. */
const [LOWEST_PORT, HIGHEST_PORT] = [20_000, 60_000];

/**
 * A group that a server joins with nobody else, for devices that its weights are not on: every
 * broadcast of it fails at once ("No backend type associated with device type cpu") and leaves the
 * weights as they are. Under the name of a group that was ended it keeps servers up to 0.5.21 alive,
 * which end when they are asked for a group that they do not know.
 *
 * `undefined` where there can be none: ranks on several hosts have no address in common that we know.
 */
export function deadGroup(
  server: Pick<ProbedServer, "isCpu" | "tpSize" | "isOnOneHost">,
): Omit<WeightsGroupOptions, "groupName" | "signal"> | undefined {
  const { tpSize, isCpu } = server;
  if (!server.isOnOneHost) return undefined;
  const ports = HIGHEST_PORT - LOWEST_PORT;
  return {
    masterAddress: "127.0.0.1",
    masterPort: tpSize === 1 ? 0 : LOWEST_PORT + Math.floor(Math.random() * ports),
    rankOffset: 0,
    worldSize: tpSize,
    backend: isCpu ? "cuda:gloo" : "cpu:gloo",
  };
}
