import { deepEqual, ok } from "node:assert/strict";
import { openGroup, record, within } from "./support/gpu.ts";
import { TorchPeer } from "./support/peer.ts";

/** What this process holds beside device memory. */
interface Held {
  readonly threads: number;
  /** Open files by kind. */
  readonly files: Record<string, number>;
}

/** What is held once the threads of ended groups are gone, which takes some milliseconds. */
async function heldAtRest(): Promise<Held> {
  let now = held();
  for (let isSame = 0, looks = 0; isSame < 10; looks++) {
    if (looks === 200) throw new Error(`threads still come and go after 10 s: ${now.threads}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const next = held();
    isSame = next.threads === now.threads ? isSame + 1 : 0;
    now = next;
  }
  return now;
}

function held(): Held {
  const files: Record<string, number> = {};
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    const kind = kindOf(name);
    if (kind !== undefined) files[kind] = (files[kind] ?? 0) + 1;
  }
  return { files, threads: [...Deno.readDirSync("/proc/self/task")].length };
}

/** `socket`, `pipe`, or the path; `undefined` for the file with which the list is read. */
function kindOf(descriptor: string): string | undefined {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${descriptor}`).replace(/:?\[.*\]/, "");
  } catch {
    return undefined;
  }
}

/** How a group's life ends. */
type End = "unused" | "closed" | "aborted";

/** Opens, uses and ends one group after the other, each with the same torch process. */
async function useGroups(peer: TorchPeer, count: number, end: End): Promise<void> {
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
}

/** Free memory of the device in MiB; every process on it counts. */
async function freeMiB(): Promise<number> {
  await using opened = await openGroup();
  return Number((await opened.group.freeDeviceBytes() / 2 ** 20).toFixed(2));
}

/** Drivers hand memory out in pieces of 2 MiB. */
const TOLERANCE_MIB = 2;

for (const end of ["unused", "closed", "aborted"] as const) {
  Deno.test({
    name: `twenty groups that end ${end} leave no memory, file or thread behind`,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      // The first groups load NCCL's kernels and start its threads, which stay.
      {
        await using peer = await TorchPeer.start();
        await useGroups(peer, 2, end);
      }
      // Memory is measured while no torch process runs, so that only our own losses count.
      const freeBeforeMiB = await freeMiB();
      let before: Held | undefined;
      let after: Held | undefined;
      {
        await using peer = await TorchPeer.start();
        await useGroups(peer, 1, end);
        before = await heldAtRest();
        await useGroups(peer, 20, end);
        after = await heldAtRest();
      }
      const lostMiB = Number((freeBeforeMiB - await freeMiB()).toFixed(2));
      record(`leaks.${end}`, { before, after, lostMiB });
      deepEqual(after.files, before.files);
      ok(after.threads <= before.threads, `${before.threads} threads became ${after.threads}`);
      ok(lostMiB <= TOLERANCE_MIB, `${lostMiB} MiB of device memory are gone`);
    },
  });
}
