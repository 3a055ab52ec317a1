/**
 * One of two ranks that use NCCL's calls directly, on a thread that may wait. Args: rank and the
 * communicator's id in hexadecimal digits. Prints what it received as a line of JSON.
 */
import { CopyKind } from "../../../ffi/cudart/constants.ts";
import { Cudart } from "../../../ffi/cudart/mod.ts";
import { NcclDataType, NcclReduction } from "../../../ffi/nccl/constants.ts";
import { type CommunicatorHandle, Nccl } from "../../../ffi/nccl/mod.ts";
import { libraries } from "./gpu.ts";

const rank = Number(Deno.args[0]);
const count = 1000;
const byteLength = 4 * count;

const cudart = Cudart.open(libraries);
const nccl = Nccl.open(libraries);
cudart.setDevice(0);
using stream = cudart.createStream();

const communicator = nccl.beginInit(Uint8Array.fromHex(Deno.args[1]!), { rank, worldSize: 2 });
settle(communicator, "ncclCommInitRankConfig");

// NCCL's own memory, registered for copies without staging.
const address = nccl.allocate(byteLength);
const registration = nccl.register(communicator, { address, byteLength });
const received = cudart.allocate(byteLength);

const args = { count, type: NcclDataType.float32, stream };
fill(address, (i) => i + 1000 * rank);
nccl.allReduce(communicator, address, { ...args, reduction: NcclReduction.sum });
settle(communicator, "ncclAllReduce");
const sum = read(address);

fill(address, (i) => (rank === 0 ? i : count - i));
nccl.allReduce(communicator, address, { ...args, reduction: NcclReduction.max });
settle(communicator, "ncclAllReduce");
const max = read(address);

// Both send and receive at once, which only a group of calls can.
fill(address, (i) => i * (rank + 1));
const peer = 1 - rank;
nccl.grouped(communicator, () => {
  nccl.send(communicator, address, { ...args, peer });
  nccl.receive(communicator, received.address, { ...args, peer });
});
settle(communicator, "ncclGroupEnd");
const exchanged = read(received.address);

if (registration !== 0n) nccl.deregister(communicator, registration);
nccl.free(address);
received[Symbol.dispose]();
const place = [nccl.rank(communicator), nccl.count(communicator)];
nccl.beginFinalize(communicator);
settle(communicator, "ncclCommFinalize");
nccl.destroy(communicator);
const said = JSON.stringify({ place, registered: registration !== 0n, sum, max, exchanged });
Deno.stdout.writeSync(new TextEncoder().encode(`${said}\n`));

function settle(one: CommunicatorHandle, call: string): void {
  const end = performance.now() + 30_000;
  while (!nccl.isSettled(one, call)) {
    if (performance.now() > end) throw new Error(`${call} did not settle in 30 s`);
  }
}

function fill(target: bigint, valueOf: (index: number) => number): void {
  const values = Float32Array.from({ length: count }, (_, i) => valueOf(i));
  const source = cudart.memory.addressOf(new Uint8Array(values.buffer));
  cudart.copy(target, source, { byteLength, kind: CopyKind.hostToDevice });
}

function read(source: bigint): number[] {
  cudart.synchronize(stream);
  const values = new Float32Array(count);
  const target = cudart.memory.addressOf(new Uint8Array(values.buffer));
  cudart.copy(target, source, { byteLength, kind: CopyKind.deviceToHost });
  return [...values];
}
