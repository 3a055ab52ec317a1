import type { TensorInfo } from "../checkpoint/dtype.ts";
import { bfloat16ToFloat32, float16ToFloat32 } from "../checkpoint/convert.ts";
import { HttpError, WeightSyncError } from "../errors.ts";
import { type FleetCall, onAll } from "./fleet.ts";
import type { FleetServer } from "./server.ts";
import type { OpenWeightSource, WeightSource } from "./source/source.ts";

/** Values of a tensor that are compared. */
const COMPARED = 64;
/** The server may hold the value as bfloat16, which keeps 8 bits of it. */
const RELATIVE_TOLERANCE = 2 ** -7;

/**
 * Reads the first values of a weight back from every server and compares them with the source.
 * `false`: some server cannot answer that (only Llama-like models can, and only unsharded ones tell
 * the whole), so it proves nothing.
 */
export async function compareSample(
  servers: readonly FleetServer[],
  source: WeightSource,
  open: OpenWeightSource,
  call: FleetCall,
): Promise<boolean> {
  const index = open.tensors.findIndex(({ name, dtype }, i) =>
    name.endsWith("layernorm.weight") && isReadable(dtype) &&
    (open.device?.(i) ?? open.wide?.device?.(i)) === undefined
  );
  if (index < 0 || servers.some(({ tpSize }) => tpSize > 1)) return false;
  const tensor = open.tensors[index]!;
  const expected = await firstValues(source, index, call);
  const answers = await onAll(servers, call, async (server, signal) => {
    const told = await readBack(server, tensor.name, signal);
    if (told === undefined) return false;
    requireNear(server, tensor, expected, told, call.phase);
    return true;
  });
  return answers.every((answered) => answered);
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

async function firstValues(
  source: WeightSource,
  index: number,
  call: FleetCall,
): Promise<Float32Array> {
  const signal = call.signal ?? new AbortController().signal;
  await using open = await source.open({ signal });
  const { dtype, shape } = open.tensors[index]!;
  const count = shape.reduce((product, size) => product * size, 1);
  const bytes = new Uint8Array(count * (dtype === "float32" ? 4 : 2));
  await open.read(index, bytes, { signal });
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
  const count = Math.min(COMPARED, told.length, expected.length);
  for (let i = 0; i < count; i++) {
    const wanted = expected[i]!;
    if (Math.abs(told[i]! - wanted) <= Math.abs(wanted) * RELATIVE_TOLERANCE + 1e-7) continue;
    throw new WeightSyncError(
      `${server.url} holds ${told[i]} at position ${i} of "${tensor.name}", sent was ${wanted}`,
      { phase, server: server.url },
    );
  }
}
