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
    freeMiB: Number((freeBytes / 2 ** 20).toFixed(2)),
  };
}

/** How a group's life ends. */
type End = "unused" | "closed" | "aborted";

/**
 * Opens, uses and ends groups with one torch process, which is gone afterwards. Gives the device
 * memory that went meanwhile, the torch process's included, in MiB.
 */
async function useGroups(count: number, end: End): Promise<number> {
  await using peer = await TorchPeer.start();
  const first = await measure();
  for (let round = 0; round < count; round++) {
    await using opened = await openGroup();
    const { group, store } = opened;
    if (end === "unused") continue;
    await peer.join(store.port, group.groupName);
    const received = peer.ask({ cmd: "broadcast", dtype: "uint8", count: 2 ** 20, times: 1 });
    await group.broadcast([{ bytes: new Uint8Array(2 ** 20), dtype: "uint8" }], within());
    await received;
    const ours = end === "closed" ? group.close() : group.abort(new Error("the test ends it"));
    await Promise.all([ours, peer.ask({ cmd: "destroy" })]);
  }
  return Number((first.freeMiB - (await measure()).freeMiB).toFixed(2));
}

/** What this process holds; the device's free memory counts every process on it. */
async function measure(): Promise<Usage> {
  await using opened = await openGroup();
  return usage(await opened.group.freeDeviceBytes());
}

/** Drivers hand memory out in pieces of 2 MiB. */
const TOLERANCE_MIB = 2;

for (const end of ["unused", "closed", "aborted"] as const) {
  Deno.test({
    name: `twenty groups that end ${end} leave no memory, file or thread behind`,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      await useGroups(2, end);
      // Measured while no torch process runs, so that only our own losses count.
      const before = await measure();
      const goneWithPeerMiB = await useGroups(20, end);
      const after = await measure();
      record(`leaks.${end}`, { before, after, goneWithPeerMiB });
      ok(after.files <= before.files, `${before.files} files became ${after.files}`);
      ok(after.threads <= before.threads, `${before.threads} threads became ${after.threads}`);
      const lostMiB = before.freeMiB - after.freeMiB;
      ok(lostMiB <= TOLERANCE_MIB, `${lostMiB} MiB of device memory are gone`);
    },
  });
}
