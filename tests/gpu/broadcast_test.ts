import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import type { DType } from "../../src/checkpoint/dtype.ts";
import { castBits, checksumOf } from "../../ffi/cuda/reference.ts";
import { NativeError, UnsupportedError } from "../../src/errors.ts";
import {
  itemBytes,
  longestBlock,
  median,
  openGroup,
  pattern,
  record,
  sha256,
  timed,
  within,
} from "./support/gpu.ts";
import { TorchPeer } from "./support/peer.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };

Deno.test({
  name: "a torch peer receives every dtype, empty tensors and 1 GiB, bit for bit",
  ...anyResources,
  async fn() {
    await using peer = await TorchPeer.start();
    await using opened = await openGroup();
    const { group, store } = opened;
    const shapes = [[3, 5], [0], [7], [], [1024, 257], [4, 0, 2]];
    const dtypes = Object.keys(itemBytes) as DType[];
    const tensors = dtypes.flatMap((dtype) => shapes.map((shape) => ({ dtype, shape })));
    tensors.push({ dtype: "uint8", shape: [2 ** 30] }, { dtype: "float32", shape: [2 ** 26] });
    const parts = tensors.map(({ dtype, shape }, i) => ({
      dtype,
      bytes: pattern(shape.reduce((a, b) => a * b, itemBytes[dtype]!), i + 1),
    }));
    deepEqual(await peer.join(store.port, group.groupName), {});
    await group.connect(within());
    const received = peer.ask({ cmd: "receive", tensors });
    const blockedMs = await longestBlock(async () => {
      const tookMs = await timed(() => group.broadcast(parts, within()));
      record("broadcast.dtypes", { tensors: tensors.length, tookMs: Math.round(tookMs) });
    });
    record("broadcast.mainThreadBlockedMs", Number(blockedMs.toFixed(2)));
    deepEqual(
      (await received).sha256,
      await Promise.all(parts.map(({ bytes }) => sha256(bytes))),
    );
    record("broadcast.info", group.info);
    await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
  },
});

Deno.test({
  name: "the main thread is never blocked for 5 ms while a group waits for its peers",
  ...anyResources,
  async fn() {
    await using peer = await TorchPeer.start();
    const pause = () => new Promise((resolve) => setTimeout(resolve, 1000));
    const idleMs: number[] = [];
    const joiningMs: number[] = [];
    const sendingMs: number[] = [];
    for (let round = 0; round < 5; round++) {
      idleMs.push(await longestBlock(pause));
      await waitForPeer(peer, { pause, joiningMs, sendingMs });
    }
    record("wait.mainThreadBlockedMs", { idleMs, joiningMs, sendingMs });
    // A call that blocks does so in every round; a gap in one of them is the machine's.
    const usualMs = Math.max(median(joiningMs), median(sendingMs));
    ok(usualMs < 5, `blocked for ${usualMs} ms`);
  },
});

/** Opens a group whose peer comes late, and then takes a broadcast late. */
async function waitForPeer(
  peer: TorchPeer,
  rounds: { pause: () => Promise<unknown>; joiningMs: number[]; sendingMs: number[] },
): Promise<void> {
  await using opened = await openGroup();
  const { group, store } = opened;
  const bytes = pattern(4096);
  const receive = { cmd: "receive", tensors: [{ dtype: "uint8", shape: [4096] }] };
  const send = async (gapsMs: number[]) => {
    let sent: Promise<void> | undefined;
    gapsMs.push(
      await longestBlock(async () => {
        sent = group.broadcast([{ bytes, dtype: "uint8" }], within());
        await rounds.pause();
      }),
    );
    return { sent };
  };
  const joining = await send(rounds.joiningMs);
  await peer.join(store.port, group.groupName);
  const first = peer.ask(receive);
  await joining.sent;
  deepEqual((await first).sha256, [await sha256(bytes)]);
  const sending = await send(rounds.sendingMs);
  await peer.ask(receive);
  await sending.sent;
  await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
}

Deno.test({
  name: "staged parts, pinned parts and float32 cast on the device arrive bit for bit",
  ...anyResources,
  async fn() {
    await using peer = await TorchPeer.start();
    await using opened = await openGroup();
    const { group, store } = opened;
    await peer.join(store.port, group.groupName);
    const count = 5_000_001;
    const floats = pattern(4 * count, 9);
    const pinned = group.stagingBuffer(3_000_000);
    pinned.set(pattern(3_000_000, 10));
    const cast = castBits(new Uint32Array(floats.buffer));
    const castBytes = new Uint8Array(cast.buffer);
    const staged = await group.stage([
      { bytes: floats, dtype: "bfloat16", castFrom: "float32" },
      { bytes: pinned, dtype: "uint8" },
    ], within());
    const tensors = [
      { dtype: "bfloat16", shape: [count] },
      { dtype: "uint8", shape: [3_000_000] },
      { dtype: "uint8", shape: [3_000_000] },
    ];
    const received = peer.ask({ cmd: "receive", tensors });
    await group.broadcastDevice(staged, within());
    const next = group.stage([{ bytes: floats, dtype: "float32" }], within());
    await group.broadcast([{ bytes: pinned, dtype: "uint8" }], within());
    const { device } = (await next)[0]!;
    equal(await group.checksum(device.address, device.byteLength), checksumOf(floats));
    const pinnedHash = await sha256(pinned);
    deepEqual((await received).sha256, [await sha256(castBytes), pinnedHash, pinnedHash]);
    await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
  },
});

Deno.test({
  name: "one broadcast reaches two peers, as one group of two servers needs",
  ...anyResources,
  async fn() {
    const [first, second] = await Promise.all([
      TorchPeer.start(),
      TorchPeer.start({ NCCL_HOSTID: "second" }),
    ]);
    await using one = first;
    await using two = second;
    await using opened = await openGroup({ worldSize: 3 });
    const { group, store } = opened;
    await Promise.all([
      one.join(store.port, group.groupName, { rank: 1, world: 3 }),
      two.join(store.port, group.groupName, { rank: 2, world: 3 }),
    ]);
    const bytes = pattern(10_000_001);
    const command = { cmd: "receive", tensors: [{ dtype: "uint8", shape: [10_000_001] }] };
    const received = Promise.all([one.ask(command), two.ask(command)]);
    await group.broadcast([{ bytes, dtype: "uint8" }], within());
    const hash = await sha256(bytes);
    deepEqual((await received).map(({ sha256 }) => sha256), [[hash], [hash]]);
    const destroy = { cmd: "destroy" };
    await Promise.all([group.close(), one.ask(destroy), two.ask(destroy)]);
  },
});

Deno.test({
  name: "two ranks that share a GPU and a host id get an error that says so",
  ...anyResources,
  async fn() {
    const hostId = Deno.env.get("NCCL_HOSTID")!;
    await using peer = await TorchPeer.start({ NCCL_HOSTID: hostId });
    await using opened = await openGroup();
    const { group, store } = opened;
    await peer.join(store.port, group.groupName);
    await peer.tell({ cmd: "receive", tensors: [{ dtype: "uint8", shape: [16] }] });
    const bytes = new Uint8Array(16);
    await rejects(
      group.broadcast([{ bytes, dtype: "uint8" }], within()),
      (error: Error) => {
        record("sameGpu.error", error.message);
        return error instanceof NativeError && /NCCL_HOSTID/.test(error.message);
      },
    );
  },
});

Deno.test({
  name: "another NCCL version than the servers' is refused before the group opens",
  ...anyResources,
  async fn() {
    await rejects(openGroup({ expectedNcclVersion: "2.19.3" }), UnsupportedError);
  },
});
