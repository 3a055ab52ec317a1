/**
 * CUDA IPC without an NCCL communicator, as a trainer on the server's host uses it: the time of one
 * update of 988 MB that lies in one device buffer, and what it is made of.
 */
import { equal } from "node:assert/strict";
import type { IpcMemory } from "../../ffi/mod.ts";
import { flattenedPayload } from "../../src/weights/ipc/payload.ts";
import { median, openGroup, record, timed } from "./support/gpu.ts";
import { python } from "./support/peer.ts";
import { readHeader, readInto, Server } from "./support/server.ts";

const server = new Server(Deno.env.get("GPU_SERVER") ?? "http://127.0.0.1:34100");
const folder = Deno.env.get("GPU_MODELS") ?? "/tmp/sglang-rl-gpu/models";

/** Posts a body many times from Python, to tell our client's share from the server's. */
const pythonPosts = `
import sys, time, requests
session, body, times = requests.Session(), open(sys.argv[2]).read(), []
for _ in range(8):
    start = time.perf_counter()
    answer = session.post(sys.argv[1] + "/update_weights_from_tensor", data=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    times.append(round(1000 * (time.perf_counter() - start), 1))
    session.post(sys.argv[1] + "/weights_checker", json={"action": "checksum"})
print(times)
`;

Deno.test({
  name: "a server takes 988 MB by CUDA IPC from a process without a communicator",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    await server.ready(200_000);
    await using opened = await openGroup();
    const { group } = opened;
    const versions = ["b", "a"] as const;
    const memory: IpcMemory[] = [];
    const sums: string[] = [];
    const file = (version: string) => `${folder}/q05b-${version}/model.safetensors`;
    const { tensors, dataOffset, byteLength } = await readHeader(file("a"));
    for (const version of versions) {
      await server.must("/update_weights_from_disk", { model_path: `${folder}/q05b-${version}` });
      sums.push(await server.checksum());
      const bytes = new Uint8Array(byteLength);
      await readInto(file(version), dataOffset, bytes);
      const address = await group.allocateDevice(byteLength);
      await group.copyToDevice(address, bytes);
      memory.push(await group.ipcMemory(address));
    }
    const bodyOf = (i: number) => ({
      serialized_named_tensors: [flattenedPayload(tensors, memory[i % 2]!)],
      load_format: "flattened_bucket",
      flush_cache: true,
    });
    const measure = async (label: string) => {
      const payloadMs: number[] = [];
      const postMs: number[] = [];
      for (let i = 0; i < 12; i++) {
        let body = {};
        payloadMs.push(await timed(() => Promise.resolve(body = bodyOf(i))));
        postMs.push(await timed(() => server.must("/update_weights_from_tensor", body)));
        equal(await server.checksum(), sums[i % 2]);
      }
      const round = (values: number[]) => values.map((value) => Number(value.toFixed(1)));
      record(`ipc.${label}`, {
        payloadMs: median(round(payloadMs)),
        postMs: median(round(postMs)),
        all: round(postMs),
      });
    };
    await measure("plain");
    // A file of reference counters, as PyTorch's sender keeps it: 64 bytes of its own, 10,000 words.
    const counters = "/dev/shm/sglang_rl_uncounted";
    const count = new Uint8Array(64 + 80_000);
    count[0] = 100;
    Deno.writeFileSync(counters, count);
    await measure("withCounters");
    Deno.removeSync(counters);
    const path = await Deno.makeTempFile();
    await Deno.writeTextFile(path, JSON.stringify(bodyOf(0)));
    const { stdout } = await new Deno.Command(python, {
      args: ["-c", pythonPosts, server.url, path],
      stderr: "inherit",
    }).output();
    record("ipc.postedByPython", new TextDecoder().decode(stdout).trim());
    await measure("plainAgain");
  },
});
