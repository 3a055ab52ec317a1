import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { AbortedError, StateError, TimeoutError } from "../../src/errors.ts";
import { openGroup, pattern, record, sha256, timed, within } from "./support/gpu.ts";
import { TorchPeer } from "./support/peer.ts";

const anyResources = { sanitizeResources: false, sanitizeOps: false };
const big = 2 ** 30;

/** A group that opens and sends proves that nothing of a fault has stayed. */
async function nextGroupWorks(): Promise<void> {
  await using peer = await TorchPeer.start();
  await using opened = await openGroup();
  const { group, store } = opened;
  await peer.join(store.port, group.groupName);
  const bytes = pattern(100_000, 3);
  const received = peer.ask({ cmd: "receive", tensors: [{ dtype: "uint8", shape: [100_000] }] });
  await group.broadcast([{ bytes, dtype: "uint8" }], within());
  deepEqual((await received).sha256, [await sha256(bytes)]);
  await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
}

Deno.test({
  name: "a peer that is killed mid-broadcast gives an error in time, and the next group opens",
  ...anyResources,
  async fn() {
    await using peer = await TorchPeer.start();
    await using opened = await openGroup();
    const { group, store } = opened;
    await peer.join(store.port, group.groupName);
    const small = { cmd: "broadcast", dtype: "uint8", count: 1024, times: 1 };
    const first = peer.ask(small);
    await group.broadcast([{ bytes: new Uint8Array(1024), dtype: "uint8" }], within());
    await first;
    const address = await group.allocateDevice(big);
    await peer.tell({ cmd: "broadcast", dtype: "uint8", count: big, times: 20 });
    const device = { address, byteLength: big };
    const parts = Array.from({ length: 20 }, () => ({ device, dtype: "uint8" as const }));
    const sent = group.broadcastDevice(parts, within(20_000));
    sent.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 700));
    await peer.kill();
    let message = "";
    const tookMs = await timed(() =>
      rejects(sent, (error: Error) => {
        message = `${error.name}: ${error.message}`;
        return true;
      })
    );
    record("fault.peerKilled", { tookMs: Math.round(tookMs), message });
    ok(tookMs < 20_000);
    await rejects(group.broadcastDevice(parts, within()), StateError);
    await nextGroupWorks();
  },
});

Deno.test({
  name: "a signal that fires mid-broadcast ends it at once; what becomes of the peer is recorded",
  ...anyResources,
  async fn() {
    await using peer = await TorchPeer.start({
      TORCH_NCCL_ASYNC_ERROR_HANDLING: "2",
      TORCH_NCCL_DUMP_ON_TIMEOUT: "0",
      TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC: "250",
    });
    await using opened = await openGroup();
    const { group, store } = opened;
    await peer.join(store.port, group.groupName);
    const address = await group.allocateDevice(big);
    await peer.tell({ cmd: "broadcast", dtype: "uint8", count: big, times: 20 });
    const parts = Array.from({ length: 20 }, () => ({
      device: { address, byteLength: big },
      dtype: "uint8" as const,
    }));
    const stop = new AbortController();
    const sent = group.broadcastDevice(parts, { signal: stop.signal });
    sent.catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 2500));
    stop.abort(new Error("enough"));
    const tookMs = await timed(() => rejects(sent, AbortedError));
    const peerTookMs = await timed(() =>
      Promise.race([
        peer.answer().then((answer) => record("fault.ourAbort.peer", answer)),
        peer.status.then((status) => record("fault.ourAbort.peer", status)),
        new Promise((resolve) => setTimeout(resolve, 8000)),
      ])
    );
    record("fault.ourAbort", { tookMs: Math.round(tookMs), peerTookMs: Math.round(peerTookMs) });
    ok(tookMs < 5000);
    await nextGroupWorks();
  },
});

Deno.test({
  name: "a peer that never arrives gives an error that names the phase and the ranks seen",
  ...anyResources,
  async fn() {
    await using peer = await TorchPeer.start();
    await using opened = await openGroup({ timeoutMs: 3000, worldSize: 3 });
    const { group, store } = opened;
    await peer.join(store.port, group.groupName, { rank: 1, world: 3 });
    await peer.tell({ cmd: "broadcast", dtype: "uint8", count: 16, times: 1 });
    const bytes = new Uint8Array(16);
    const tookMs = await timed(() =>
      rejects(group.broadcast([{ bytes, dtype: "uint8" }], within()), (error: Error) => {
        record("fault.absentPeer", error.message);
        return error instanceof TimeoutError && /join peers/.test(error.message) &&
          /2 of 3 ranks/.test(error.message);
      })
    );
    record("fault.absentPeer.tookMs", Math.round(tookMs));
    equal(group.isConnected, false);
    await peer.kill();
    await nextGroupWorks();
  },
});
