import { bfloat16ToFloat32, float16ToFloat32 } from "../../checkpoint/convert.ts";
import type { TensorInfo } from "../../checkpoint/dtype.ts";
import { HttpError, UnsupportedError, WeightSyncError } from "../../errors.ts";
import type { CheckedTensor } from "./names.ts";
import { type FleetCall, onAll } from "../fleet/on_all.ts";
import type { FleetServer } from "../fleet/server.ts";
import type { OpenWeightSource, WeightSource } from "../source/source.ts";

/** Prompt of the greedy probe: ids that every vocabulary has. */
const PROBE_IDS = [1, 2, 3, 4, 5, 6, 7, 8];
const PROBE_TOKENS = 8;

/**
 * Bytes of a bucket that find no room beside other memory: PyTorch's allocator takes a segment for
 * itself from 20 MiB on, and splits none of another's that is not much larger.
 */
const LEAST_SEGMENT_BYTES = 64 * 2 ** 20;

/** Whether servers receive the buckets of a sync in memory that they give back afterwards. */
export function isReceivedApart(
  transport: string,
  buckets: readonly { readonly byteLength: number; readonly flattened: boolean }[],
): boolean {
  return transport === "nccl" &&
    buckets.some(({ byteLength, flattened }) => flattened && byteLength >= LEAST_SEGMENT_BYTES);
}

/**
 * Makes every server finish the work on its device.
 *
 * A GPU server answers an update when the receives are enqueued, not when the weights are there, so
 * its 200 proves nothing. Where it received them in memory of their own and runs nothing, it is told
 * to give that back: `cudaFree` waits for all work of the device (CUDA's programming guide on stream
 * ordered allocation), and PyTorch waits by itself where it frees in another way. Else a checksum of
 * all weights runs behind the receives on the same device, which takes longer. A CPU server works in
 * order and needs nothing. `false`: a server too old for the checksum needs a generation instead,
 * once it is resumed.
 *
 * @param isApart Whether the servers received the weights in memory of their own.
 */
export async function synchronise(
  servers: readonly FleetServer[],
  call: FleetCall,
  isApart: boolean = false,
): Promise<boolean> {
  const done = await onAll(servers, call, async (server, signal) => {
    if (server.isCpu) return true;
    // The checksum is not told for every stage or replica; tokens need all of them.
    if (server.isSplit) return false;
    // Only its first rank answers for a flush.
    if (isApart && server.tpSize === 1 && await server.releaseBuffers(signal)) return true;
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
        `${server.url} (SGLang ${server.version}) cannot give a checksum; use verify "version" or "sample"`,
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

/** Values of a tensor that are compared. */
const COMPARED = 64;
/** Most tensors that are compared. */
const MOST_SAMPLED = 16;
/** The server may hold the value as bfloat16, which keeps 8 bits of it. */
const RELATIVE_TOLERANCE = 2 ** -7;

/**
 * Reads the first values of up to 16 norms back from every server and compares them with the source.
 * `false`: some server cannot answer that (only Llama-like models can, and only unsharded ones tell
 * the whole), so it proves nothing.
 */
export async function compareSample(
  servers: readonly FleetServer[],
  source: WeightSource,
  { open, sent }: { readonly open: OpenWeightSource; readonly sent: readonly CheckedTensor[] },
  call: FleetCall,
): Promise<boolean> {
  const indexes = sampled(open, sent);
  if (indexes.length === 0 || servers.some(({ tpSize }) => tpSize > 1)) return false;
  const values = await firstValues(source, indexes, call);
  const answers = await onAll(servers, call, async (server, signal) => {
    for (const [tensor, expected] of values) {
      const told = await readBack(server, tensor.name, signal);
      if (told === undefined) return false;
      requireNear(server, tensor, expected, told, call.phase);
    }
    return true;
  });
  return answers.every((answered) => answered);
}

/** Norms all over the model: short, whole on every server, and of the last bucket as of the first. */
function sampled(open: OpenWeightSource, sent: readonly CheckedTensor[]): number[] {
  const norms = sent.flatMap(({ name, dtype, shape, sourceIndex: i }) => {
    const isOnDevice = (open.device?.(i) ?? open.wide?.device?.(i)) !== undefined;
    const isNorm = shape.length === 1 && name.endsWith("norm.weight") && isReadable(dtype);
    return isNorm && !isOnDevice ? [i] : [];
  });
  const step = Math.max(1, (norms.length - 1) / (MOST_SAMPLED - 1));
  const count = Math.min(norms.length, MOST_SAMPLED);
  return Array.from({ length: count }, (_, i) => norms[Math.round(i * step)]!);
}

function isReadable(dtype: string): boolean {
  return dtype === "float32" || dtype === "bfloat16" || dtype === "float16";
}

async function readBack(
  server: FleetServer,
  name: string,
  signal: AbortSignal,
): Promise<number[] | undefined> {
  try {
    const values = await server.client.getWeightsByName(name, { signal, truncateSize: COMPARED });
    return Array.isArray(values) ? values.flat(Infinity) as number[] : undefined;
  } catch (error) {
    if (error instanceof HttpError) return undefined;
    throw error;
  }
}

/** The values of tensors that a server should hold, read again. */
async function firstValues(
  source: WeightSource,
  indexes: readonly number[],
  call: FleetCall,
): Promise<Map<TensorInfo, Float32Array>> {
  const signal = call.signal ?? new AbortController().signal;
  await using open = await source.open({ signal });
  const values = new Map<TensorInfo, Float32Array>();
  for (const index of indexes) {
    const tensor = open.tensors[index]!;
    const { dtype, shape } = tensor;
    const count = shape.reduce((product, size) => product * size, 1);
    const bytes = new Uint8Array(count * (dtype === "float32" ? 4 : 2));
    await open.read(index, bytes, { signal });
    values.set(tensor, asFloat32(bytes, dtype));
  }
  return values;
}

function asFloat32(bytes: Uint8Array<ArrayBuffer>, dtype: string): Float32Array {
  if (dtype === "float32") return new Float32Array(bytes.buffer);
  const halves = new Uint16Array(bytes.buffer);
  return dtype === "bfloat16" ? bfloat16ToFloat32(halves) : float16ToFloat32(halves);
}

function requireNear(
  server: FleetServer,
  tensor: TensorInfo,
  expected: Float32Array,
  told: readonly number[],
  phase: string,
): void {
  const count = Math.min(COMPARED, expected.length);
  if (told.length < count) {
    throw new WeightSyncError(
      `${server.url} tells ${told.length} values of "${tensor.name}", which has ${expected.length}`,
      { phase, server: server.url },
    );
  }
  for (let i = 0; i < count; i++) {
    const wanted = expected[i]!;
    // NaN is near nothing.
    if (Math.abs(told[i]! - wanted) <= Math.abs(wanted) * RELATIVE_TOLERANCE + 1e-7) continue;
    throw new WeightSyncError(
      `${server.url} holds ${told[i]} at position ${i} of "${tensor.name}", sent was ${wanted}`,
      { phase, server: server.url },
    );
  }
}

/** Requires that a server tells the version that it was given. */
export async function requireVersion(
  server: FleetServer,
  version: string,
  signal: AbortSignal,
): Promise<void> {
  const told = await server.readVersion(signal);
  if (told === version) return;
  throw new WeightSyncError(
    `${server.url} tells weight version "${told}" after it was set to "${version}"`,
    { phase: "set the version", server: server.url },
  );
}
