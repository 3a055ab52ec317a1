/** The servers that scripts/gpu/run_multi.sh started, one or more on each GPU but the first. */
import { Server } from "./server.ts";

/** A model that servers were started with. */
export type ModelKind = "q05b" | "q7b";

/** A running server. */
export interface FleetMember {
  /** The server. */
  readonly server: Server;
  /** GPUs that it runs on. */
  readonly tpSize: number;
}

/**
 * The servers of a model, from `GPU_FLEET_Q05B` or `GPU_FLEET_Q7B`: their addresses, each with its
 * number of GPUs after a "*" when that is not 1, separated by spaces.
 */
export function fleetOf(kind: ModelKind): FleetMember[] {
  const name = `GPU_FLEET_${kind.toUpperCase()}`;
  const value = Deno.env.get(name);
  if (!value) throw new Error(`${name} is not set: run scripts/gpu/run_multi.sh`);
  return value.split(" ").map((member) => {
    const [url, tpSize = "1"] = member.split("*");
    return { server: new Server(url!), tpSize: Number(tpSize) };
  });
}

/** Folder of a checkpoint; `version` tells several of one model apart. */
export function folderOf(kind: ModelKind, version = "a"): string {
  const models = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";
  return `${models}/${kind}-${version}`;
}

/** The fleet's checksum and greedy tokens of a checkpoint that each server loaded from disk. */
export interface Reference {
  /** By server, in the fleet's order. */
  readonly checksums: readonly string[];
  /** Equal on all servers of one device kind and sharding. */
  readonly tokens: readonly (readonly number[])[];
  /** Milliseconds that the update from disk took. */
  readonly diskMs: number;
}

/** Loads a checkpoint from disk on all servers and reads what they then hold. */
export async function referenceFromDisk(
  fleet: readonly FleetMember[],
  folder: string,
): Promise<Reference> {
  const start = performance.now();
  // Not the servers' own format: one that was started with random weights would make them again.
  const body = { model_path: folder, load_format: "auto" };
  await Promise.all(
    fleet.map(({ server }) => server.must("/update_weights_from_disk", body)),
  );
  const diskMs = Math.round(performance.now() - start);
  return { ...await readState(fleet), diskMs };
}

/** The checksums and greedy tokens of all servers. */
export async function readState(
  fleet: readonly FleetMember[],
): Promise<Pick<Reference, "checksums" | "tokens">> {
  return {
    checksums: await Promise.all(fleet.map(({ server }) => server.checksum())),
    tokens: await Promise.all(fleet.map(({ server }) => server.tokens())),
  };
}

/** Fills all weights with random numbers, so that an update that brings nothing is seen. */
export async function spoil(fleet: readonly FleetMember[]): Promise<void> {
  await Promise.all(
    fleet.map(({ server }) => server.must("/weights_checker", { action: "reset_tensors" })),
  );
}
