/** One broadcast, to be run with the narrowest permissions: args are a port and four paths. */
import { NcclGroup } from "../../../ffi/mod.ts";
import { TCPStoreServer } from "../../../src/rendezvous/mod.ts";

const [port, nccl, cudart] = Deno.args as [string, string, string];
await using store = TCPStoreServer.listen({ port: Number(port) });
await using group = await NcclGroup.open({
  store,
  worldSize: 2,
  groupName: "narrow",
  libraries: { nccl, cudart },
});
Deno.stdout.writeSync(new TextEncoder().encode("listening\n"));
const bytes = new Uint8Array(4096).map((_, i) => i % 251);
await group.broadcast([{ bytes, dtype: "uint8" }], { signal: AbortSignal.timeout(60_000) });
