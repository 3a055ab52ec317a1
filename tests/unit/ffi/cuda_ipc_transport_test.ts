import { match, rejects } from "node:assert/strict";
import { UnsupportedError } from "../../../src/errors.ts";
import { resolveOptions } from "../../../src/weights/resolved_options.ts";
import { CudaIpcTransport } from "../../../src/weights/transport/cuda_ipc.ts";
import type { TransportServer } from "../../../src/weights/transport/transport.ts";

/** What the transport asks of a server before it opens anything. */
function server(url: string, version: string, isCpu = false): TransportServer {
  return { url, version, isCpu } as TransportServer;
}

const step = () => Promise.reject(new Error("the device was opened"));

Deno.test("CUDA IPC is refused for servers that cannot read our memory, and says why", async () => {
  const transport = new CudaIpcTransport(resolveOptions({ serverUrl: "http://127.0.0.1:1" }));
  for (
    const [unfit, reason] of [
      [server("http://127.0.0.1:1", "0.5.16", true), /a CPU/],
      [server("http://10.0.0.5:1", "0.5.16"), /loopback/],
      [server("http://127.example.org:1", "0.5.16"), /loopback/],
      [server("http://localhost:1", "0.5.9"), /0\.5\.16 to 0\.5\.23.*runs 0\.5\.9/],
      [server("http://127.0.0.1:1", "0.6.0"), /runs 0\.6\.0/],
    ] as const
  ) {
    await rejects(
      transport.connect({ servers: [unfit], step, signal: undefined }),
      (error: Error) => {
        match(error.message, reason);
        return error instanceof UnsupportedError;
      },
    );
  }
});

Deno.test("CUDA IPC goes on to open the device for servers that can read our memory", async () => {
  const transport = new CudaIpcTransport(resolveOptions({ serverUrl: "http://127.0.0.1:1" }));
  const servers = [
    server("http://127.0.0.1:1", "0.5.16"),
    server("http://localhost:1", "0.5.23"),
    server("http://[::1]:1", "0.5.20rc1"),
  ];
  await rejects(transport.connect({ servers, step, signal: undefined }), /the device was opened/);
});
