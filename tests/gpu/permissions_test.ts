import { deepEqual, equal } from "node:assert/strict";
import { libraries, record, sha256 } from "./support/gpu.ts";
import { TorchPeer } from "./support/peer.ts";

Deno.test({
  name: "two ffi paths, one address and our own files are permissions enough for a broadcast",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await using peer = await TorchPeer.start();
    const port = 34_901;
    const root = new URL("../../", import.meta.url).pathname;
    const flags = [
      `--allow-ffi=${libraries.nccl},${libraries.cudart}`,
      `--allow-net=127.0.0.1:${port}`,
      `--allow-read=${root}ffi,${root}src`,
    ];
    const script = new URL("./support/narrow_broadcast.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        ...flags,
        script,
        String(port),
        libraries.nccl!,
        libraries.cudart!,
      ],
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const output = child.stdout.getReader();
    await output.read();
    await peer.join(port, "narrow");
    const answer = await peer.ask({
      cmd: "receive",
      tensors: [{ dtype: "uint8", shape: [4096] }],
    });
    deepEqual(answer.sha256, [await sha256(new Uint8Array(4096).map((_, i) => i % 251))]);
    await peer.ask({ cmd: "destroy" });
    await output.cancel();
    equal((await child.status).code, 0);
    record("permissions", "two ffi paths suffice");
  },
});
