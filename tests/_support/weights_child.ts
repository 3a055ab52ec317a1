/**
 * A trainer in a process of its own, to be killed: `weights_child.ts URLS FOLDER MOMENT`. Prints the
 * moment when it is there and then waits for its death.
 */
import { GlooGroup } from "../../src/collective/gloo/group.ts";
import { safetensors, stateDict } from "../../src/weights/source/mod.ts";
import { SGLangWeightSyncScheme } from "../../src/weights/mod.ts";

const [urls, folder, moment] = Deno.args as [
  string,
  string,
  "idle" | "between" | "in_session" | "payload" | "signal",
];

let isTold = false;

function arrived(): Promise<never> {
  // Every server has a group of its own; the first that comes there counts.
  if (isTold) return new Promise(() => {});
  isTold = true;
  Deno.stdout.writeSync(new TextEncoder().encode(`${moment}\n`));
  return new Promise(() => {});
}

let groupName = "";
const alive = setInterval(() => {}, 1000);
let broadcasts = 0;
const scheme = new SGLangWeightSyncScheme({
  workers: urls.split(","),
  bucketBytes: 300_000,
  nameCheck: moment === "payload" ? "off" : "servers",
  async openGroup(options, call) {
    const group = await GlooGroup.open(options, call);
    groupName = options.groupName;
    const broadcast = group.broadcast.bind(group);
    group.broadcast = async (parts, broadcastCall) => {
      if (moment === "in_session" && broadcasts === 0) await arrived();
      if (moment === "between" && broadcasts === 1) await arrived();
      broadcasts++;
      if (moment === "payload") setTimeout(arrived, 300);
      await broadcast(parts, broadcastCall);
    };
    return group;
  },
});
const sender = scheme.createSender();
await sender.initAllWorkersGroup();
if (moment === "payload") {
  // The server ignores the name, but receives the bytes: long enough to be killed within them.
  const big = new Float32Array(128 * 1024 * 1024);
  await sender.updateWeights(stateDict({ "no.such.weight": { data: big, shape: [big.length] } }));
}
await sender.updateWeights(safetensors(folder));
if (moment === "idle") await arrived();
if (moment === "signal") {
  sender.installSignalHandlers();
  Deno.stdout.writeSync(new TextEncoder().encode(`${groupName}\n`));
  // Kept running by the interval, until the signal.
} else clearInterval(alive);
