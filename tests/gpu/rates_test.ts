/** Rates of our rank 0 beside a Python rank 0 that does the same in the same run. */
import { allocatedParts, median, openGroup, record, within } from "./support/gpu.ts";
import { TorchPeer } from "./support/peer.ts";

const small = { count: 32_768, times: 300 };
const flatBytes = 2 * small.count * small.times;
const repeats = 7;

interface Rates {
  readonly smallMs: number;
  readonly flatMs: number;
  readonly gibMs: number;
  readonly gibGBs: number;
}

const steps = [
  { name: "small", dtype: "bfloat16", count: small.count, times: small.times },
  { name: "flat", dtype: "uint8", count: flatBytes, times: 1 },
  { name: "gib", dtype: "uint8", count: 2 ** 30, times: 1 },
] as const;

function summarize(ms: Record<string, number[]>): Rates {
  const middle = (name: string) => Number(median(ms[name]!.slice(1)).toFixed(2));
  const gibMs = middle("gib");
  return {
    smallMs: middle("small"),
    flatMs: middle("flat"),
    gibMs,
    gibGBs: Number((2 ** 30 / gibMs / 1e6).toFixed(2)),
  };
}

async function ofPython(env: Record<string, string>): Promise<Rates> {
  const [root, peer] = await Promise.all([
    TorchPeer.start({ ...env, NCCL_HOSTID: "trainer" }),
    TorchPeer.start(env),
  ]);
  await using _root = root;
  await using _peer = peer;
  const port = 34_000 + Math.floor(Math.random() * 900);
  const place = (rank: number) => ({ rank, world: 2 });
  await Promise.all([root.join(port, "python", place(0)), peer.join(port, "python", place(1))]);
  const ms: Record<string, number[]> = {};
  for (const { name, ...step } of steps) {
    for (let i = 0; i < repeats; i++) {
      const received = peer.ask({ cmd: "broadcast", ...step });
      const sent = await root.ask({ cmd: "broadcast", ...step });
      await received;
      (ms[name] ??= []).push(sent.seconds! * 1000);
    }
  }
  await Promise.all([root.ask({ cmd: "destroy" }), peer.ask({ cmd: "destroy" })]);
  return summarize(ms);
}

async function ofDeno(env: Record<string, string>): Promise<Rates> {
  await using peer = await TorchPeer.start(env);
  await using opened = await openGroup();
  const { group, store } = opened;
  await peer.join(store.port, group.groupName);
  const address = await group.allocateDevice(2 ** 30);
  const ms: Record<string, number[]> = {};
  for (const { name, ...step } of steps) {
    const parts = allocatedParts(address, step);
    for (let i = 0; i < repeats; i++) {
      const received = peer.ask({ cmd: "broadcast", ...step });
      const start = performance.now();
      await group.broadcastDevice(parts, within());
      (ms[name] ??= []).push(performance.now() - start);
      await received;
    }
  }
  await Promise.all([group.close(), peer.ask({ cmd: "destroy" })]);
  return summarize(ms);
}

const fourByFour = { NCCL_SOCKET_NTHREADS: "4", NCCL_NSOCKS_PERTHREAD: "4" };

for (const [sockets, env] of [["default", {}], ["4x4", fourByFour]] as const) {
  Deno.test({
    name: `rates with ${sockets} sockets are recorded beside Python's`,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn() {
      const deno = await ofDeno(env);
      const python = await ofPython(env);
      record(`rates.${sockets}`, { deno, python });
    },
  });
}
