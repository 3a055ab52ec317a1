import { match, rejects } from "node:assert/strict";
import { UnsupportedError } from "../../../src/errors.ts";
import { CudaIpcDelivery } from "../../../src/weights/delivery/cuda_ipc.ts";
import { resolveOptions } from "../../../src/weights/options.ts";
import type { FleetServer } from "../../../src/weights/server.ts";
import type { Steps } from "../../../src/weights/steps.ts";

/** What the delivery asks of a server before it opens anything. */
function server(url: string, version: string, isCpu = false): FleetServer {
  return { url, version, isCpu } as FleetServer;
}

const steps = {
  run: () => Promise.reject(new Error("the device was opened")),
} as unknown as Steps;

Deno.test("CUDA IPC is refused for servers that cannot read our memory, and says why", async () => {
  const delivery = new CudaIpcDelivery(resolveOptions({ serverUrl: "http://127.0.0.1:1" }));
  for (
    const [unfit, reason] of [
      [server("http://127.0.0.1:1", "0.5.16", true), /a CPU/],
      [server("http://10.0.0.5:1", "0.5.16"), /loopback/],
      [server("http://localhost:1", "0.5.9"), /0\.5\.16 to 0\.5\.23.*runs 0\.5\.9/],
      [server("http://127.0.0.1:1", "0.6.0"), /runs 0\.6\.0/],
    ] as const
  ) {
    await rejects(
      delivery.connect({ servers: [unfit], steps, signal: undefined }),
      (error: Error) => {
        match(error.message, reason);
        return error instanceof UnsupportedError;
      },
    );
  }
});

Deno.test("CUDA IPC goes on to open the device for servers that can read our memory", async () => {
  const delivery = new CudaIpcDelivery(resolveOptions({ serverUrl: "http://127.0.0.1:1" }));
  const servers = [
    server("http://127.0.0.1:1", "0.5.16"),
    server("http://localhost:1", "0.5.23"),
    server("http://[::1]:1", "0.5.20rc1"),
  ];
  await rejects(delivery.connect({ servers, steps, signal: undefined }), /the device was opened/);
});
