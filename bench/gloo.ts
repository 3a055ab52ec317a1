/**
 * What a broadcast over gloo costs as rank 0: this package's root beside torch's, to the same ranks of
 * torch, one root after the other in each round. By the clock from the beginning to the last rank's
 * end, and in time of the root's processor.
 *
 * Run as `deno run -A bench/gloo.ts [--mib 64,512] [--peers 1] [--times 6] [--rounds 3]
 * [--python PYTHON]`; no server is needed.
 */
// deno-lint-ignore-file no-console
import { parseArgs } from "node:util";
import { GlooGroup } from "../src/collective/gloo/mod.ts";
import { freePort } from "../tests/_support/free_port.ts";
import { median } from "../tests/_support/median.ts";
import { usedMs } from "../tests/_support/processor_time.ts";
import { pythonOf } from "../tests/_support/real.ts";

const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "64,512" },
    peers: { type: "string", default: "1" },
    times: { type: "string", default: "6" },
    rounds: { type: "string", default: "3" },
    python: { type: "string", default: pythonOf() },
  },
});
const world = Number(values.peers) + 1;
const times = Number(values.times);
const program = new URL("speed/gloo_rank.py", import.meta.url).pathname;

/** What a rank says at its end, in seconds. */
interface Said {
  readonly spans: readonly (readonly [began: number, ended: number])[];
  readonly used: number;
}

/** Milliseconds of each broadcast but the first, and of the processor for one. */
interface Cost {
  readonly each: readonly number[];
  readonly used: number;
}

async function rank(port: number, number: number, mib: number): Promise<Said> {
  const { stdout, success } = await new Deno.Command(values.python, {
    args: [program, ...[port, number, world, mib, times].map(String)],
    env: { OMP_NUM_THREADS: "1", GLOO_SOCKET_IFNAME: "lo" },
    stdout: "piped",
  }).output();
  if (!success) throw new Error("a rank in Python failed; give a Python that has torch");
  return JSON.parse(new TextDecoder().decode(stdout));
}

function costOf(begins: readonly number[], peers: readonly Said[], used: number): Cost {
  const each = begins.map((began, i) => {
    return 1000 * (Math.max(...peers.map(({ spans }) => spans[i]![1])) - began);
  });
  return { each: each.slice(1), used: used / times };
}

const peersAt = (port: number, mib: number) =>
  Promise.all(Array.from({ length: world - 1 }, (_, i) => rank(port, i + 1, mib)));

async function byTorch(mib: number): Promise<Cost> {
  const port = freePort();
  const [root, peers] = await Promise.all([rank(port, 0, mib), peersAt(port, mib)]);
  return costOf(root.spans.map(([began]) => began), peers, root.used * 1000);
}

async function byUs(mib: number): Promise<Cost> {
  const signal = AbortSignal.timeout(300_000);
  const bytes = new Uint8Array(mib * 2 ** 20).fill(1);
  await using group = await GlooGroup.open({
    masterAddress: "127.0.0.1",
    masterPort: 0,
    groupName: "weight_update_group",
    worldSize: world,
  }, { signal });
  const peers = peersAt(group.masterPort, mib);
  await group.connect({ signal });
  await new Promise((wake) => setTimeout(wake, 500));
  const started = usedMs();
  const begins: number[] = [];
  for (let i = 0; i < times; i++) {
    begins.push(Date.now() / 1000);
    await group.broadcast([{ bytes, dtype: "uint8" }], { signal });
  }
  const used = usedMs() - started;
  return costOf(begins, await peers, used);
}

for (const mib of values.mib.split(",").map(Number)) {
  const found: { ours: Cost; torch: Cost }[] = [];
  for (let round = 0; round < Number(values.rounds); round++) {
    found.push({ torch: await byTorch(mib), ours: await byUs(mib) });
  }
  const ms = (who: "ours" | "torch") => median(found.flatMap((one) => one[who].each));
  const used = (who: "ours" | "torch") => median(found.map((one) => one[who].used));
  console.log(
    `${mib} MiB to ${world - 1}: ours / torch ${
      (ms("ours") / ms("torch")).toFixed(2)
    } by the clock ` +
      `(${ms("ours").toFixed(0)} / ${ms("torch").toFixed(0)} ms), the root's processor ` +
      `${(used("ours") / used("torch")).toFixed(2)} (${used("ours").toFixed(0)} / ` +
      `${used("torch").toFixed(0)} ms)`,
  );
}
