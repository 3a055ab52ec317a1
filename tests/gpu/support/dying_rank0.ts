/** A rank 0 that dies in the middle of an update: args are a server's URL and a checkpoint. */
import { openGroup, within } from "./gpu.ts";
import { readHeader, readInto, Server, updateBody } from "./server.ts";

const [url, file] = Deno.args as [string, string];
const server = new Server(url);
const groupName = "dying";
const { group, store } = await openGroup({ groupName });
await server.must("/init_weights_update_group", {
  master_address: "127.0.0.1",
  master_port: store.port,
  rank_offset: 1,
  world_size: 2,
  group_name: groupName,
  backend: "nccl",
});
const { tensors, dataOffset, byteLength } = await readHeader(file);
const bytes = new Uint8Array(byteLength);
await readInto(file, dataOffset, bytes);
server.post("/update_weights_from_distributed", updateBody(tensors, groupName)).catch(() => {});
const half = tensors.slice(0, Math.floor(tensors.length / 2));
await group.broadcast(
  half.map(({ dtype, offset, byteLength }) => ({
    dtype,
    bytes: bytes.subarray(offset, offset + byteLength),
  })),
  within(),
);
Deno.kill(Deno.pid, "SIGKILL");
