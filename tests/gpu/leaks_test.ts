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

Deno.test({
  name: "twenty groups opened, used and closed leave no memory, file or thread behind",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await using peer = await TorchPeer.start();
    const usages: Usage[] = [];
    for (let round = 0; round < 21; round++) {
      await using opened = await openGroup();
      const { group, store } = opened;
      await peer.join(store.port, group.groupName);
      const received = peer.ask({ cmd: "broadcast", dtype: "uint8", count: 2 ** 20, times: 1 });
      await group.broadcast([{ bytes: new Uint8Array(2 ** 20), dtype: "uint8" }], within());
      await received;
      usages.push(usage(await group.freeDeviceBytes()));
      await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
    }
    record("leaks", { first: usages[1], last: usages.at(-1), all: usages.map((u) => u.threads) });
    const first = usages[1]!;
    const last = usages.at(-1)!;
    ok(last.files <= first.files + 2, `${first.files} files became ${last.files}`);
    ok(last.threads <= first.threads + 2, `${first.threads} threads became ${last.threads}`);
    ok(last.freeMiB >= first.freeMiB - 16, `${first.freeMiB} MiB free became ${last.freeMiB}`);
  },
});
