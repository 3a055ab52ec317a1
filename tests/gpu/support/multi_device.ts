/**
 * A full update from memory of rank 0's GPU. `SGLangWeightSyncScheme` takes weights from files and
 * host memory only, so this drives the servers and an `NcclGroup` itself, in the scheme's order:
 * pause, flush, buckets, proof that they landed, resume.
 */
import { openCheckpoint } from "../../../src/checkpoint/mod.ts";
import { planBuckets, type PlannedBucket } from "../../../src/weights/plan.ts";
import { type OpenedGroup, openGroup, within } from "./gpu.ts";
import { type Server, updateBody } from "./server.ts";

const MIB = 2 ** 20;
const loadPieceBytes = 256 * MIB;

/** How long a full update took. */
export interface DeviceSync {
  /** From the request to pause until the answer to the request to resume. */
  readonly totalMs: number;
  /** The buckets alone. */
  readonly updateMs: number;
}

/** A checkpoint in memory of GPU 0, and a group with the servers that are to have it. */
export class DeviceWeights implements AsyncDisposable {
  readonly #opened: OpenedGroup;
  readonly #servers: readonly Server[];
  readonly #tensors: Parameters<typeof planBuckets>[0];
  readonly #address: bigint;
  /** Bytes of all tensors. */
  readonly sizeBytes: number;

  private constructor(
    opened: OpenedGroup,
    servers: readonly Server[],
    loaded: Pick<DeviceWeights, "sizeBytes"> & {
      readonly tensors: Parameters<typeof planBuckets>[0];
      readonly address: bigint;
    },
  ) {
    this.#opened = opened;
    this.#servers = servers;
    this.#tensors = loaded.tensors;
    this.#address = loaded.address;
    this.sizeBytes = loaded.sizeBytes;
  }

  /** Lets the servers join a group, and brings a checkpoint to GPU 0. */
  static async load(
    folder: string,
    servers: readonly { readonly server: Server; readonly tpSize: number }[],
  ): Promise<DeviceWeights> {
    const worldSize = 1 + servers.reduce((sum, { tpSize }) => sum + tpSize, 0);
    const opened = await openGroup({ worldSize });
    try {
      await joinServers(opened, worldSize, servers);
      const loaded = await copyToDevice(opened, folder);
      return new DeviceWeights(opened, servers.map(({ server }) => server), loaded);
    } catch (error) {
      await opened[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Sends all weights in buckets of at most `bucketBytes`. */
  async sync(bucketBytes: number): Promise<DeviceSync> {
    const buckets = planBuckets(this.#tensors, { bucketBytes, flattened: true });
    const start = performance.now();
    await this.#all("/pause_generation", { mode: "abort" });
    await Promise.all(this.#servers.map(flushCache));
    const updateStart = performance.now();
    let offset = 0;
    for (const bucket of buckets) {
      await this.#send(bucket, offset);
      offset += bucket.byteLength;
    }
    const updateMs = Math.round(performance.now() - updateStart);
    await this.#all("/weights_checker", { action: "checksum" });
    await this.#all("/continue_generation", { torch_empty_cache: true });
    return { totalMs: Math.round(performance.now() - start), updateMs };
  }

  async #send(bucket: PlannedBucket, offset: number): Promise<void> {
    const { group } = this.#opened;
    const device = { address: this.#address + BigInt(offset), byteLength: bucket.byteLength };
    const body = updateBody(
      bucket.tensors.map(({ name, dtype, shape }) => ({ name, dtype, shape })),
      group.groupName,
      { load_format: "flattened_bucket", flush_cache: false },
    );
    await Promise.all([
      this.#all("/update_weights_from_distributed", body),
      group.broadcastDevice([{ device, dtype: "uint8" }], within()),
    ]);
  }

  async #all(path: string, body: Record<string, unknown> = {}): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.must(path, body)));
  }

  /** Ends the group on both sides and gives the memory back. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { group } = this.#opened;
    try {
      await Promise.all([
        this.#all("/destroy_weights_update_group", { group_name: group.groupName }),
        group.close(),
      ]);
    } finally {
      await this.#opened[Symbol.asyncDispose]();
    }
  }
}

/** A server that was busy a moment ago is asked to wait until it is idle. */
async function flushCache(server: Server): Promise<void> {
  const { status } = await server.post("/flush_cache");
  if (status !== 200) await server.must("/flush_cache?timeout=5");
}

async function joinServers(
  { group, store }: OpenedGroup,
  worldSize: number,
  servers: readonly { readonly server: Server; readonly tpSize: number }[],
): Promise<void> {
  await group.connect(within());
  let rank = 1;
  await Promise.all(servers.map(({ server, tpSize }) => {
    const rankOffset = rank;
    rank += tpSize;
    return server.must("/init_weights_update_group", {
      master_address: "127.0.0.1",
      master_port: store.port,
      rank_offset: rankOffset,
      world_size: worldSize,
      group_name: group.groupName,
      backend: "nccl",
    });
  }));
}

/** All tensors one after the other, in the order of the checkpoint. */
async function copyToDevice({ group }: OpenedGroup, folder: string) {
  await using checkpoint = await openCheckpoint(folder);
  const tensors = [...checkpoint.tensors.values()].map(({ name, dtype, shape }, sourceIndex) => ({
    name,
    dtype,
    shape,
    sourceIndex,
  }));
  const pieces = planBuckets(tensors, { bucketBytes: loadPieceBytes, flattened: true });
  const largest = Math.max(...pieces.map(({ byteLength }) => byteLength));
  const staging = group.stagingBuffer(largest);
  const address = await group.allocateDevice(checkpoint.byteLength);
  let offset = 0;
  for (const piece of pieces) {
    const bytes = staging.subarray(0, piece.byteLength);
    await Promise.all(piece.tensors.map((tensor) => {
      const place = bytes.subarray(tensor.offset, tensor.offset + tensor.sizeBytes);
      return checkpoint.readInto(tensor.name, place);
    }));
    await group.copyToDevice(address + BigInt(offset), bytes);
    offset += piece.byteLength;
  }
  return { tensors, address, sizeBytes: checkpoint.byteLength };
}
