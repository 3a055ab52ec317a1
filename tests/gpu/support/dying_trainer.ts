/** A trainer that kills itself in a sync: args are where, a folder, and the servers' addresses. */
import { safetensors } from "../../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../../src/weights/mod.ts";
import { libraries, stderrLogger } from "./gpu.ts";
import { isReached, type Position } from "./positions.ts";

const [position, folder, ...workers] = Deno.args as [Position, string, ...string[]];
const sender = new SGLangWeightSyncScheme({
  workers,
  transport: "nccl",
  masterAddress: "127.0.0.1",
  nccl: libraries,
  bucketBytes: 32 * 2 ** 20,
  logger: stderrLogger,
}).createSender();
await sender.initAllWorkersGroup();
await sender.updateWeights(safetensors(folder), {
  onProgress(progress) {
    if (!isReached(position, progress)) return;
    Deno.stdout.writeSync(new TextEncoder().encode("dies\n"));
    Deno.kill(Deno.pid, "SIGKILL");
  },
});
