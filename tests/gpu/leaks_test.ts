import { ok } from "node:assert/strict";
import { openGroup, record, within } from "./support/gpu.ts";
import { TorchPeer } from "./support/peer.ts";

interface Usage {
  readonly files: number;
  readonly threads: number;
  readonly freeMiB: number;
}

/** Open files and threads of this process. */
function usage(freeBytes: number): Usage {
  return {
    files: [...Deno.readDirSync("/proc/self/fd")].length,
    threads: [...Deno.readDirSync("/proc/self/task")].length,
    freeMiB: Math.round(freeBytes / 2 ** 20),
  };
}

/** Opens, uses and closes groups with one torch process, which is gone afterwards. */
async function useGroups(count: number): Promise<void> {
  await using peer = await TorchPeer.start();
  for (let round = 0; round < count; round++) {
    await using opened = await openGroup();
    const { group, store } = opened;
    await peer.join(store.port, group.groupName);
    const received = peer.ask({ cmd: "broadcast", dtype: "uint8", count: 2 ** 20, times: 1 });
    await group.broadcast([{ bytes: new Uint8Array(2 ** 20), dtype: "uint8" }], within());
    await received;
    await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
  }
}

/** What this process holds while no peer runs. */
async function measure(): Promise<Usage> {
  await using opened = await openGroup();
  return usage(await opened.group.freeDeviceBytes());
}

Deno.test({
  name: "twenty groups opened, used and closed leave no memory, file or thread behind",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await useGroups(2);
    const before = await measure();
    await useGroups(20);
    const after = await measure();
    record("leaks", { before, after });
    ok(after.files <= before.files, `${before.files} files became ${after.files}`);
    ok(after.threads <= before.threads, `${before.threads} threads became ${after.threads}`);
    ok(after.freeMiB >= before.freeMiB, `${before.freeMiB} MiB free became ${after.freeMiB}`);
  },
});
