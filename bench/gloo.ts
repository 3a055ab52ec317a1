/**
 * What a broadcast costs the root of a gloo group: ours beside torch's, each to peers of torch, by
 * the bytes of a broadcast. Time of the root's processor for each GB, rounds in turn.
 *
 * Run as `deno run -A bench/gloo.ts [--sizes 64,512] [--peers 1] [--rounds 3] [--python PYTHON]`, sizes
 * in MiB.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { GlooGroup } from "../src/collective/gloo/mod.ts";
import { median } from "../tests/_support/median.ts";
import { freePort } from "../tests/_support/free_port.ts";
import { usedMs } from "../tests/_support/processor_time.ts";
import { pythonOf } from "../tests/_support/real.ts";

const { values } = parseArgs({
  options: {
    sizes: { type: "string", default: "64,512" },
    peers: { type: "string", default: "1" },
    rounds: { type: "string", default: "3" },
    python: { type: "string", default: pythonOf() },
  },
});
const world = Number(values.peers) + 1;
/** Broadcasts of a round. */
const COUNT = 5;

interface Rank {
  readonly port: number;
  readonly rank: number;
  readonly mib: number;
}

/** Seconds of the processor of a rank of torch. */
async function torchRank({ port, rank, mib }: Rank): Promise<number> {
  const program = new URL("speed/gloo_peer.py", import.meta.url).pathname;
  const { stdout, success } = await new Deno.Command(values.python, {
    args: [program, ...[port, rank, world, mib, COUNT].map(String)],
    stderr: "null",
  }).output();
  if (!success) throw new Error(`rank ${rank} of torch failed`);
  return Number(new TextDecoder().decode(stdout).trim().split("\n").at(-1));
}

const peersAt = (port: number, mib: number) =>
  Array.from({ length: world - 1 }, (_, i) => torchRank({ port, rank: i + 1, mib }));

async function ours(mib: number): Promise<number> {
  const signal = AbortSignal.timeout(300_000);
  const bytes = new Uint8Array(mib * 2 ** 20).fill(1);
  const group = await GlooGroup.open({
    masterAddress: "127.0.0.1",
    masterPort: 0,
    groupName: "weight_update_group",
    worldSize: world,
  }, { signal });
  const peers = Promise.all(peersAt(group.masterPort, mib));
  await group.connect({ signal });
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const started = usedMs();
  for (let i = 0; i < COUNT; i++) await group.broadcast([{ bytes, dtype: "uint8" }], { signal });
  const used = usedMs() - started;
  await peers;
  await group.close();
  return used / 1000;
}

async function torchs(mib: number): Promise<number> {
  const port = freePort();
  const [root] = await Promise.all([torchRank({ port, rank: 0, mib }), ...peersAt(port, mib)]);
  return root!;
}

for (const mib of values.sizes.split(",").map(Number)) {
  const found: [number, number][] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    found.push([await ours(mib), await torchs(mib)]);
  }
  const perGb = (side: 0 | 1) =>
    (median(found.map((pair) => pair[side])) / (COUNT * mib * 2 ** 20 / 1e9)).toFixed(2);
  console.log(
    `${mib} MiB to ${world - 1}: ${perGb(0)} s of the root a GB, torch ${perGb(1)}, ours / torch ${
      median(found.map(([a, b]) => a / b)).toFixed(2)
    }`,
  );
}
Deno.exit(0);
