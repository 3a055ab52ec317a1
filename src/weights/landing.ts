import { UnsupportedError, WeightSyncError } from "../errors.ts";
import { type FleetCall, onAll } from "./fleet.ts";
import type { FleetServer } from "./server.ts";

/** Prompt of the greedy probe: ids that every vocabulary has. */
const PROBE_IDS = [1, 2, 3, 4, 5, 6, 7, 8];
const PROBE_TOKENS = 8;

/**
 * Makes every server finish the work on its device.
 *
 * A GPU server answers an update when the receives are enqueued, not when the weights are there, so
 * its 200 proves nothing; a checksum runs behind them on the same device. A CPU server works in
 * order and needs nothing. `false`: a server too old for the checksum needs a generation instead,
 * once it is resumed.
 */
export async function synchronise(
  servers: readonly FleetServer[],
  call: FleetCall,
): Promise<boolean> {
  const done = await onAll(servers, call, async (server, signal) => {
    if (server.isCpu) return true;
    if (!server.capabilities.hasWeightChecksum) return false;
    await server.client.weightsChecker("checksum", { signal });
    return true;
  });
  return done.every((one) => one);
}

/** The checksum of every server's weights, as one text for each. */
export async function readChecksums(
  servers: readonly FleetServer[],
  call: FleetCall,
): Promise<string[]> {
  return await onAll(servers, call, async (server, signal) => {
    const answer = await server.client.weightsChecker("checksum", { signal });
    const checksum = answer.per_engine_checksum;
    if (checksum === undefined || checksum === null) {
      throw new UnsupportedError(
        `${server.url} (SGLang ${server.version}) tells no checksum; use verify "version" or "sample"`,
      );
    }
    return JSON.stringify(checksum);
  });
}

/** Requires that servers with equal sharding hold equal weights. */
export function requireEqualChecksums(
  servers: readonly FleetServer[],
  checksums: readonly string[],
  phase: string,
): void {
  const first = new Map<number, { server: FleetServer; checksum: string }>();
  servers.forEach((server, i) => {
    const checksum = checksums[i]!;
    const other = first.get(server.tpSize);
    if (other === undefined) {
      first.set(server.tpSize, { server, checksum });
      return;
    }
    if (other.checksum === checksum) return;
    throw new WeightSyncError(
      `After the update ${server.url} has checksum ${checksum} and ${other.server.url} has ` +
        `${other.checksum}; they should be equal`,
      { phase, server: server.url },
    );
  });
}

/**
 * Lets every server continue one prompt greedily: they must agree on the tokens and name the
 * version. It also waits for the device, because the tokens need it. Servers must be resumed.
 */
export async function probeGreedily(
  servers: readonly FleetServer[],
  version: string,
  call: FleetCall,
): Promise<Int32Array> {
  const samples = await onAll(servers, call, (server, signal) =>
    server.client.generate({
      inputIds: PROBE_IDS,
      samplingParams: {
        temperature: 0,
        maxNewTokens: PROBE_TOKENS,
        ignoreEos: true,
      },
      // No prefix of another version can be hit under a name of its own.
      extraKey: `weight-probe-${version}`,
    }, { signal }));
  const expected = samples[0]!;
  samples.forEach((sample, i) => {
    const server = servers[i]!.url;
    if (sample.weightVersion !== version) {
      throw new WeightSyncError(
        `${server} generated with weight version ${sample.weightVersion}, expected ${version}`,
        { phase: call.phase, server },
      );
    }
    if (sample.ids.join() === expected.ids.join()) return;
    throw new WeightSyncError(
      `${server} continues the probe with [${sample.ids.join(", ")}], ${servers[0]!.url} with ` +
        `[${expected.ids.join(", ")}]; with equal weights they should agree`,
      { phase: call.phase, server },
    );
  });
  return expected.ids;
}
