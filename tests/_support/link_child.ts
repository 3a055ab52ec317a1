/**
 * Rank 0 in a process of its own: a link and a sender to one server. Serves pushes until it is told
 * to die (-9) at a step of a sync, or before it takes up a push ("offered"), or when all is done but
 * the trainer does not know ("done"): link_child.ts ADDRESS SERVER [STEP]
 */
import { TrainerLink } from "../../src/trainer/mod.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";

const [address, serverUrl, step] = Deno.args;
await using link = await TrainerLink.listen(address!);
const scheme = new SGLangWeightSyncScheme({
  serverUrl: serverUrl!,
  deadlines: { beginMs: 1000, destroyMs: 1000, takeoverMs: 1000 },
});
await using sender = scheme.createSender();
await sender.initAllWorkersGroup();
Deno.stdout.writeSync(new TextEncoder().encode("ready\n"));
for await (const push of link.pushes()) {
  if (step === "offered") Deno.kill(Deno.pid, "SIGKILL");
  try {
    const report = await sender.updateWeights(push.source, {
      onProgress({ phase }) {
        if (phase === step) Deno.kill(Deno.pid, "SIGKILL");
      },
    });
    if (step === "done") Deno.kill(Deno.pid, "SIGKILL");
    await push.done(report);
  } catch (error) {
    await push.failed(error);
  }
}
