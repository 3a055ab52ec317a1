/** What the GPU tests share: libraries, groups, data, and a file of results. */
import type { DType } from "../../../src/checkpoint/dtype.ts";
import {
  type DevicePart,
  type LibraryOptions,
  NcclGroup,
  type NcclGroupOptions,
} from "../../../ffi/mod.ts";
import { TCPStoreServer } from "../../../src/rendezvous/mod.ts";

export { median } from "../../_support/median.ts";

/** The libraries, as scripts/gpu/run.sh found them. */
export const libraries: LibraryOptions = {
  nccl: required("GPU_NCCL"),
  cudart: required("GPU_CUDART"),
  ...optional("cuda", "GPU_CUDA"),
};

function required(name: string): string {
  const value = Deno.env.get(name);
  if (value) return value;
  throw new Error(`${name} is not set: run these tests with \`deno task test:gpu\``);
}

function optional(key: string, variable: string): Record<string, string> {
  const value = Deno.env.get(variable);
  return value ? { [key]: value } : {};
}

/** Writes a result as a line of JSON, to the file of results and to the console. */
export function record(name: string, value: unknown): void {
  const line = `${JSON.stringify({ name, value })}\n`;
  const file = Deno.env.get("GPU_RESULTS");
  if (file) Deno.writeTextFileSync(file, line, { append: true });
  Deno.stderr.writeSync(new TextEncoder().encode(`RESULT ${line}`));
}

/** A group with its store. */
export interface OpenedGroup extends AsyncDisposable {
  readonly group: NcclGroup;
  readonly store: TCPStoreServer;
}

let groups = 0;

/** Opens a group and its store. */
export async function openGroup(options: Partial<NcclGroupOptions> = {}): Promise<OpenedGroup> {
  const store = TCPStoreServer.listen();
  const groupName = `group_${Deno.pid}_${groups++}`;
  const group = await NcclGroup.open({
    store,
    worldSize: 2,
    groupName,
    libraries,
    timeoutMs: 60_000,
    logger: stderrLogger,
    ...options,
  });
  return {
    group,
    store,
    async [Symbol.asyncDispose]() {
      await group.close().catch((error: Error) => stderrLogger.warn(error.message));
      await store[Symbol.asyncDispose]();
    },
  };
}

function say(message: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`${message}\n`));
}

/** Says everything on stderr. */
export const stderrLogger = { debug: say, info: say, warn: say, error: say };

/** A signal for a call that is expected to end. */
export function within(timeoutMs = 60_000): { signal: AbortSignal } {
  return { signal: AbortSignal.timeout(timeoutMs) };
}

/** Bytes that differ everywhere, fast (xorshift32). */
export function pattern(byteLength: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(byteLength / 4));
  let state = seed * 2654435761 >>> 0 || 1;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, byteLength);
}

/** SHA-256 in hexadecimal digits, as Python's hashlib writes it. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Element sizes of the dtypes that the tests send. */
export const itemBytes: Partial<Record<DType, number>> = {
  float64: 8,
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  int8: 1,
  uint8: 1,
};

/** Parts that send the same device memory `times` times. */
export function allocatedParts(
  address: bigint,
  step: { readonly dtype: DType; readonly count: number; readonly times: number },
): DevicePart[] {
  const byteLength = step.count * itemBytes[step.dtype]!;
  return Array.from(
    { length: step.times },
    () => ({ device: { address, byteLength }, dtype: step.dtype }),
  );
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** The longest time for which the event loop did not come round while `work` ran. */
export async function longestBlock(work: () => Promise<unknown>): Promise<number> {
  let last = performance.now();
  let longest = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }, 1);
  try {
    await work();
  } finally {
    clearInterval(timer);
  }
  return longest;
}
